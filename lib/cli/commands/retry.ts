import { type BulkOptions, doInBulk, isBulk } from '../bulk.js';
import type { CommandLine } from '../command-line.js';
import { addFilterOptions } from '../filter.js';
import { findRunId } from '../run-reference.js';

export function addRetryCommand({ program, onEngine }: CommandLine): void {
  const command = program
    .command('retry')
    .description(
      'Lets failed, cancelled or blocked runs go on from their last recorded outcome, with fresh attempts: those that are named, or all of a ' +
        'filter (cancelled ones if --status says so).',
    )
    .argument('[run...]', 'ids, beginnings of ids, or workflow/key')
    .option('--all', 'all failed and blocked runs')
    .option('--dry-run', 'with a filter: only count');
  addFilterOptions(command).action((references: string[], options: BulkOptions) =>
    onEngine(async (session) => {
      if (isBulk(references, options)) return doInBulk(session, 'retry', options);
      const { orchestrator, engine, output } = session;
      const ids: string[] = [];
      for (const reference of references) {
        const id = await findRunId(engine, reference);
        await orchestrator.retry(id);
        ids.push(id);
      }
      output.show(
        ids.map((id) => ({ id })),
        () => ids.map((id) => `${id}: goes on`).join('\n'),
      );
    }),
  );
}
