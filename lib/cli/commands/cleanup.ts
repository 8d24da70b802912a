import { type RetentionOptions, type SweepPosition, toKeptFor } from '../../engine/retention.js';
import { toDuration } from '../arguments.js';
import type { CommandLine } from '../command-line.js';
import { EXIT } from '../exit-code.js';
import { withProgress } from '../progress.js';

export function addCleanupCommand({ program, onEngine }: CommandLine): void {
  program
    .command('cleanup')
    .description(
      'Deletes finished runs that are past their time, whole families, in small batches. What workflows say themselves holds; for the others ' +
        'the options say how long runs are kept.',
    )
    .option('--completed <duration>', 'how long completed runs are kept; for ever if not given', toDuration)
    .option('--failed <duration>', 'how long failed ones are', toDuration)
    .option('--cancelled <duration>', 'how long cancelled ones are', toDuration)
    .action((options: RetentionOptions) =>
      onEngine(async ({ engine, output, exitWith }) => {
        const kept = toKeptFor(options);
        let deleted = 0;
        const isBusy = await withProgress('cleaning up', async (tell) => {
          for (let position: SweepPosition | undefined, more = true; more;) {
            const sweep = await engine.store.retention.sweep(kept, position);
            if (sweep === 'busy') return true;
            deleted += sweep.deleted;
            position = sweep.next;
            more = position !== undefined;
            tell(`cleaning up: ${deleted} runs deleted`);
          }
          return false;
        });
        if (isBusy) exitWith(EXIT.refused);
        output.show({ deleted, busy: isBusy }, () => `${deleted} runs deleted`);
        if (isBusy) output.remark('A worker is cleaning up at this moment. Try again later.');
      }),
    );
}
