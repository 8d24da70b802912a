import type { CommandLine } from '../command-line.js';
import { findRunId } from '../run-reference.js';

export function addRetryCommand({ program, onEngine }: CommandLine): void {
  program
    .command('retry')
    .description('Lets failed, cancelled or blocked runs go on from their last recorded outcome, with fresh attempts.')
    .argument('<run...>', 'ids, beginnings of ids, or workflow/key')
    .action((references: string[]) =>
      onEngine(async ({ orchestrator, engine, output }) => {
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
