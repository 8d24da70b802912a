import { migrate, pendingMigrations } from '../../store/migrate.js';
import type { CommandLine } from '../command-line.js';
import { EXIT } from '../exit-code.js';
import { withProgress } from '../progress.js';

export function addMigrateCommand({ program, onDatabase }: CommandLine): void {
  program
    .command('migrate')
    .description('Makes the tables, or brings them up to date.')
    .option('--check', 'change nothing; exit with 1 if they are behind')
    .action(({ check }: { check?: true }) =>
      onDatabase(async ({ database, output, exitWith }) => {
        const pending = await pendingMigrations(database);
        const { schema } = database;
        if (check) {
          if (pending.length) exitWith(EXIT.found);
          output.show({ schema, pending }, () =>
            pending.length
              ? `The schema "${schema}" is behind: ${pending.join(', ')}. Run \`npx orchestration migrate\`.`
              : `The schema "${schema}" is up to date.`,
          );
          return;
        }
        await withProgress(`migrating the schema "${schema}"`, () => migrate(database, true));
        output.show({ schema, done: pending }, () =>
          pending.length
            ? `The schema "${schema}" has now ${pending.join(', ')}.`
            : `The schema "${schema}" was up to date.`,
        );
      }),
    );
}
