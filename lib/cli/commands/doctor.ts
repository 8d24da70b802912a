import type { Database } from '../../store/database.js';
import { Diagnosis } from '../../store/diagnosis.js';
import { pendingMigrations } from '../../store/migrate.js';
import { toCount, toDurationMs } from '../arguments.js';
import { openClient } from '../client.js';
import type { CommandLine } from '../command-line.js';
import { DATABASE_CHECKS } from '../doctor/database-checks.js';
import { type Check, count, type Finding, type Limits, type Patient, problem } from '../doctor/finding.js';
import { RUN_CHECKS } from '../doctor/run-checks.js';
import { WORKER_CHECKS } from '../doctor/worker-checks.js';
import { EXIT } from '../exit-code.js';
import { styled } from '../output.js';
import { withProgress } from '../progress.js';
import { plain } from '../table.js';

const CHECKS = [...DATABASE_CHECKS, ...WORKER_CHECKS, ...RUN_CHECKS];

interface DoctorOptions {
  overdueAfter: number;
  silentAfter: number;
  longHistory: number;
}

export function addDoctorCommand({ program, onDatabase }: CommandLine): void {
  program
    .command('doctor')
    .description('Looks for what is wrong, and says what to do. Ends with 1 if it finds a problem.')
    .option('--overdue-after <duration>', 'how long something claimable may wait (5m)', toDurationMs, 5 * 60_000)
    .option(
      '--silent-after <duration>',
      'how long a run may execute without recording anything (1h)',
      toDurationMs,
      3_600_000,
    )
    .option('--long-history <entries>', 'from when on a history is long', toCount, 10_000)
    .action(({ overdueAfter, silentAfter, longHistory }: DoctorOptions) =>
      onDatabase(async ({ database, output, exitWith }) => {
        const limits = { overdueMs: overdueAfter, silentMs: silentAfter, longHistory };
        const findings = await withProgress('looking', (tell) => examine(database, limits, tell));
        if (findings.some(({ level }) => level === 'problem')) exitWith(EXIT.found);
        output.show({ findings }, () => describe(findings));
      }),
    );
}

async function examine(database: Database, limits: Limits, tell: (text: string) => void): Promise<Finding[]> {
  const pending = await pendingMigrations(database);
  if (pending.length) return [behind(database.schema, pending)];
  const client = await openClient(database);
  try {
    const patient = { diagnosis: new Diagnosis(database), engine: client.engine, listen: client.listen, limits };
    const findings: Finding[] = [];
    for (const check of CHECKS) {
      tell(`looking for ${check.name}`);
      findings.push(...(await findingsOf(check, patient)));
    }
    return findings;
  } finally {
    await client.close();
  }
}

/** One that fails, on tables that are too large for it for example, does not hide what the others find. */
async function findingsOf({ name: check, find }: Check, patient: Patient): Promise<Finding[]> {
  try {
    return (await find(patient)).map((finding) => ({ check, ...finding }));
  } catch (error) {
    const what = `This could not be looked at: ${error instanceof Error ? error.message : String(error)}`;
    return [{ check, ...problem(what, 'See whether the database is overloaded, and try again.') }];
  }
}

function behind(schema: string, pending: readonly string[]): Finding {
  const what = `The tables of the schema "${schema}" are behind: ${pending.join(', ')}. Nothing else was looked at.`;
  return { check: 'schema', ...problem(what, 'npx orchestration migrate') };
}

function describe(findings: readonly Finding[]): string {
  if (findings.length === 0) return styled('green', 'Nothing is wrong.');
  const problems = findings.filter(({ level }) => level === 'problem').length;
  const total = `${count(problems, 'problem')}, ${count(findings.length - problems, 'notice')}`;
  return [...findings.map(describeFinding), total].join('\n\n');
}

function describeFinding({ level, check, what, mend, runIds = [] }: Finding): string {
  const example = runIds[0] === undefined || what.includes(runIds[0]) ? [] : [`   such as ${runIds[0]}`];
  const head = `${level === 'problem' ? styled('red', '✗') : styled('yellow', '!')}  ${styled('bold', check)}`;
  return [head, `   ${plain(what)}`, ...example, `   → ${mend}`].join('\n');
}
