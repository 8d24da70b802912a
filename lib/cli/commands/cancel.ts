import type { CancelCount } from '../../engine/orchestrator.js';
import { type BulkOptions, doInBulk, isBulk } from '../bulk.js';
import type { CommandLine } from '../command-line.js';
import { UsageError } from '../exit-code.js';
import { addFilterOptions } from '../filter.js';
import { findRunId } from '../run-reference.js';

interface CancelOptions extends BulkOptions {
  reason?: string;
  terminate?: true;
}

interface Cancelled extends CancelCount {
  id: string;
}

export function addCancelCommand({ program, onEngine }: CommandLine): void {
  const command = program
    .command('cancel')
    .description('Cancels runs with all their active descendants: those that are named, or all of a filter.')
    .argument('[run...]', 'ids, beginnings of ids, or workflow/key')
    .option('--reason <text>', 'is kept with the runs')
    .option('--terminate', 'end them at once: no code of theirs runs any more, not for cleaning up either')
    .option('--all', 'all active runs')
    .option('--dry-run', 'with a filter: only count');
  addFilterOptions(command).action((references: string[], { reason, terminate, ...options }: CancelOptions) =>
    onEngine(async (session) => {
      const { orchestrator, engine, output } = session;
      if (isBulk(references, options)) {
        if (reason !== undefined || terminate)
          throw new UsageError('--reason and --terminate go with runs that are named.');
        return doInBulk(session, 'cancel', options);
      }
      const mode = terminate ? 'terminate' : 'graceful';
      const results: Cancelled[] = [];
      for (const reference of references) {
        const id = await findRunId(engine, reference);
        results.push({ id, ...(await orchestrator.cancel(id, { mode, ...(reason !== undefined && { reason }) })) });
      }
      output.show(results, () => results.map(describe).join('\n'));
    }),
  );
}

function describe({ id, cancelled, requested }: Cancelled): string {
  if (cancelled + requested === 0) return `${id}: had ended, or is being cancelled already`;
  const parts = [
    ...(cancelled ? [`${countOf(cancelled)} cancelled`] : []),
    ...(requested ? [`${countOf(requested)} unwinding`] : []),
  ];
  return `${id}: ${parts.join(', ')}`;
}

const countOf = (count: number) => (count === 1 ? '1 run' : `${count} runs`);
