import type { CancelCount } from '../../engine/orchestrator.js';
import type { CommandLine } from '../command-line.js';
import { findRunId } from '../run-reference.js';

interface CancelOptions {
  reason?: string;
  terminate?: true;
}

interface Cancelled extends CancelCount {
  id: string;
}

export function addCancelCommand({ program, onEngine }: CommandLine): void {
  program
    .command('cancel')
    .description('Cancels runs with all their active descendants.')
    .argument('<run...>', 'ids, beginnings of ids, or workflow/key')
    .option('--reason <text>', 'is kept with the runs')
    .option('--terminate', 'end them at once: no code of theirs runs any more, not for cleaning up either')
    .action((references: string[], { reason, terminate }: CancelOptions) =>
      onEngine(async ({ orchestrator, engine, output }) => {
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
