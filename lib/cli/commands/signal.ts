import { toJsonValue } from '../arguments.js';
import type { CommandLine } from '../command-line.js';
import { checkReadable } from '../plain-payload.js';
import { findRunId } from '../run-reference.js';

interface SignalOptions {
  payload?: unknown;
  id?: string;
  tree?: true;
  plain?: true;
}

export function addSignalCommand({ program, onEngine }: CommandLine): void {
  program
    .command('signal')
    .description('Sends a signal to a run. A schema of the signal, which its app has, is not checked here.')
    .argument('<run>', 'its id, the beginning of it, or workflow/key')
    .argument('<name>', 'of the signal')
    .option('--payload <json>', 'what it says', toJsonValue)
    .option('--id <id>', 'a signal with the same id counts once for that run')
    .option('--tree', 'also to its live descendants that wait for that signal')
    .option('--plain', 'although the payloads of this engine are encrypted, which this command cannot do')
    .action((reference: string, name: string, { payload, id, tree, plain }: SignalOptions) =>
      onEngine(async ({ orchestrator, engine, output }) => {
        const runId = await findRunId(engine, reference);
        if (payload !== undefined && !plain) await checkReadable(engine, 'The payload');
        await orchestrator.signal(runId, name, payload, {
          scope: tree ? 'tree' : 'run',
          ...(id !== undefined && { id }),
        });
        output.show({ id: runId, signal: name }, () => `${runId}: has '${name}'`);
      }),
    );
}
