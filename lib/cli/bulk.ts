import type { BulkAction } from '../engine/bulk.js';
import type { Client } from './client.js';
import type { Session } from './command-line.js';
import { UsageError } from './exit-code.js';
import { type FilterOptions, toFilter } from './filter.js';
import { withProgress } from './progress.js';
import { findRunId } from './run-reference.js';

export interface BulkOptions extends FilterOptions {
  all?: true;
  dryRun?: true;
}

/** Whether runs are meant by a filter. They are named in one way, and nothing is done to all runs by an oversight. */
export function isBulk(references: readonly string[], { dryRun, all, ...filter }: BulkOptions): boolean {
  const hasFilter = all || Object.keys(filter).length > 0;
  if (references.length > 0 && (hasFilter || dryRun))
    throw new UsageError('Name runs, or give a filter, not both; --dry-run goes with a filter.');
  if (references.length > 0) return false;
  if (all && Object.keys(filter).length > 0) throw new UsageError('--all is for all runs, without a filter.');
  if (hasFilter) return true;
  throw new UsageError('Which runs? Name them, or give a filter such as --workflow order; --all for all of them.');
}

/** Does it to all runs of a filter, in batches. After an interruption the same command goes on. */
export async function doInBulk(session: Session & Client, action: BulkAction, options: BulkOptions): Promise<void> {
  const { orchestrator, engine, output } = session;
  const filter = options.all ? 'all' : (await toFilter(options, (text) => findRunId(engine, text)))!;
  const { matched } = await withProgress('counting', () => orchestrator.bulk({ filter, action }, { dryRun: true }));
  if (options.dryRun)
    return output.show({ matched, done: 0 }, () => `${matched} would be done: ${action}. Nothing was.`);
  const result = await withProgress(`${action}: 0 of ${matched}`, (tell) =>
    orchestrator.bulk({ filter, action }, { onProgress: ({ done }) => tell(`${action}: ${done} of ${matched}`) }),
  );
  output.show(result, () => `${action}: ${result.done} of ${result.matched} done`);
}
