import { readFileSync } from 'node:fs';
import { Command, CommanderError, Option } from 'commander';
import { Database } from '../store/database.js';
import { type Client, openClient } from './client.js';
import { addCancelCommand } from './commands/cancel.js';
import { addCleanupCommand } from './commands/cleanup.js';
import { addDoctorCommand } from './commands/doctor.js';
import { addInputCommands } from './commands/input.js';
import { addInspectCommand } from './commands/inspect.js';
import { addListCommand } from './commands/list.js';
import { addMigrateCommand } from './commands/migrate.js';
import { addQueuesCommand } from './commands/queues.js';
import { addRetryCommand } from './commands/retry.js';
import { addRunCommand } from './commands/run.js';
import { addSchedulesCommand } from './commands/schedules.js';
import { addSignalCommand } from './commands/signal.js';
import { addStatusCommand } from './commands/status.js';
import { addTreeCommand } from './commands/tree.js';
import { addWorkersCommand } from './commands/workers.js';
import { findConnection } from './connection.js';
import { EXIT, exitCodeOf } from './exit-code.js';
import { harmless, Output } from './output.js';

/** What a command works with. */
export interface Session {
  output: Output;
  /** Ends the process with this, although nothing was thrown. */
  exitWith(code: number): void;
}

/** The command line, as the file of a command sees it. */
export interface CommandLine {
  program: Command;
  /** Work on the database as it is, whatever its tables. */
  onDatabase(work: (session: Session & { database: Database }) => Promise<void>): Promise<void>;
  /** Work on a database whose tables are those of this version. */
  onEngine(work: (session: Session & Client) => Promise<void>): Promise<void>;
}

interface GlobalOptions {
  url?: string;
  schema: string;
  json?: boolean;
}

const COMMANDS = [
  ...[addStatusCommand, addListCommand, addInspectCommand, addTreeCommand],
  ...[addRunCommand, addCancelCommand, addRetryCommand, addSignalCommand, addInputCommands],
  ...[addQueuesCommand, addSchedulesCommand, addWorkersCommand],
  ...[addMigrateCommand, addCleanupCommand, addDoctorCommand],
];

const EXIT_CODES = `
Exit codes:
  0 fine · 1 found something (behind, failed, problems), or failed itself · 2 wrong usage
  3 database unusable · 4 not found · 5 refused, not in that state · 6 not in time`;

/** Does what the arguments say. Resolves with the exit code; never throws. */
export async function runCommandLine(args: readonly string[]): Promise<number> {
  let exitCode: number = EXIT.fine;
  const program = new Command('orchestration');
  const onDatabase: CommandLine['onDatabase'] = async (work) => {
    const { url, schema, json = false } = program.opts<GlobalOptions>();
    const database = await Database.open(await findConnection(url), schema);
    try {
      await work({ database, output: new Output(json), exitWith: (code) => (exitCode = code) });
    } finally {
      await database.close();
    }
  };
  const onEngine: CommandLine['onEngine'] = (work) =>
    onDatabase(async ({ database, ...session }) => {
      const client = await openClient(database);
      try {
        await work({ ...session, ...client });
      } finally {
        await client.close();
      }
    });
  describe(program);
  for (const add of COMMANDS) add({ program, onDatabase, onEngine });
  try {
    await program.parseAsync(args, { from: 'user' });
    return exitCode;
  } catch (error) {
    if (!(error instanceof CommanderError)) complain(error);
    return exitCodeOf(error);
  }
}

function describe(program: Command): void {
  program
    .description('Looks at and operates the durable runs of nestjs-orchestration.')
    .version(version(), '-V, --version')
    .option('--url <url>', 'the database; default: DATABASE_URL, else the embedded one in .orchestration/')
    .option('--schema <name>', 'the schema of the engine', 'orchestration')
    .addOption(new Option('--json', 'print JSON, for scripts'))
    .addHelpText('after', EXIT_CODES)
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({ outputError: (text, write) => write(withoutPasswords(text)) })
    .showSuggestionAfterError()
    .exitOverride();
}

function version(): string {
  const manifest = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(manifest) as { version: string }).version;
}

function complain(error: unknown): void {
  const text = error instanceof Error ? error.message : String(error);
  process.stderr.write(`${harmless(withoutPasswords(`error: ${text}`))}\n`);
}

/** A mistyped `--ulr=postgres://…` is repeated by the message about it. */
function withoutPasswords(text: string): string {
  return text.replaceAll(/(\w+:\/\/[^\s:@/]*):[^\s@]*@/g, '$1:***@');
}
