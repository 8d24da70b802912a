// The part of .ci/run after the installation: the check on a PostgreSQL of this machine if there is one, then the
// end-to-end tests through a pooler if that is installed, then what depends on the database once more on the embedded one, and on
// another Node if npm has it: async contexts, the collection of garbage and timers differ between them. A test file that fails beside
// others is run once more, alone: what passes then has failed for want of time on this machine. Ends with one closing line over all passes.
//
// CI_EMBEDDED_TESTS: a jest path pattern for the embedded pass; `none` leaves it out. Default: see below.
// CI_TIME_LIMIT_S:   when the time is up, what still runs is killed and counts as one failure. Default: 4200.
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { closingLine } from './closing-line.mjs';
import { findPostgres } from './find-postgres.mjs';

// Not `embedded`, which has its servers of its own in every pass, and starts node under accounts that cannot read npm's copies of it.
const ON_EVERY_DATABASE = 'test/(crash|engine|flow|sample-app|store|telemetry|testing)/';
/** More than these, and it is no want of time. */
const MOST_AGAIN = 3;
// Once is enough for what is the same in every pass.
const HAS_ITS_OWN_SERVER = '--testPathIgnorePatterns=/database-crash.spec';
const OTHER_NODE = ['exec', '--yes', '--package=node@24', '--'];
const deadline = Date.now() + Number(process.env.CI_TIME_LIMIT_S ?? 4200) * 1_000;
const embeddedTests = process.env.CI_EMBEDDED_TESTS ?? ON_EVERY_DATABASE;
const folder = mkdtempSync(join(tmpdir(), 'ci-'));
const passes = [];

const databaseUrl = process.env.DATABASE_URL || (await findPostgres());
console.log(
  databaseUrl
    ? 'Tests: on the PostgreSQL of this machine.'
    : 'Tests: no PostgreSQL here, on the database the tests find.',
);
const started = Date.now();
const onDatabase = databaseUrl ? { DATABASE_URL: databaseUrl } : {};
await pass('check', ['run', 'check'], 'test', onDatabase);
const took = Date.now() - started;

if (spawnSync('pgbouncer', ['--version']).status === 0)
  await pass('pooler', ['run', 'test:pooler'], 'test:pooler', onDatabase);
else console.log('The tests through a pooler are left out: PgBouncer is not installed here.');

if (databaseUrl && embeddedTests !== 'none') {
  if (deadline - Date.now() > took) {
    const args = ['run', 'test:embedded', '--', embeddedTests, HAS_ITS_OWN_SERVER];
    await pass('embedded', args, 'test:embedded', {}, onOtherNode());
  } else
    console.log(`The pass on the embedded database is left out: the first one took ${Math.round(took / 1_000)} s.`);
}

rmSync(folder, { recursive: true });
console.log(closingLine(passes.map(({ counts }) => counts)));
process.exit(passes.every(({ ok }) => ok) ? 0 : 1);

/** What npm is told before `npm run` for it to be run by that Node; nothing when it cannot be had. */
function onOtherNode() {
  const { status, stdout } = spawnSync('npm', [...OTHER_NODE, 'node', '-p', 'process.version'], { encoding: 'utf8' });
  console.log(status === 0 ? `On Node ${stdout.trim()}:` : 'npm cannot get another Node here.');
  return status === 0 ? [...OTHER_NODE, 'npm'] : [];
}

/** `script` is what runs single files of its tests; `leading` comes before the arguments of npm. */
async function pass(name, args, script, env = {}, leading = []) {
  const summaryFile = join(folder, name);
  const code = await npmUntilDeadline([...leading, ...args], { ...env, TEST_SUMMARY_FILE: summaryFile });
  const { failedFiles, ...counts } = readCounts(summaryFile);
  if (code !== 1 || failedFiles.length === 0 || failedFiles.length > MOST_AGAIN)
    return passes.push({ ok: code === 0, counts });

  console.log(`Once more, alone:\n${failedFiles.join('\n')}`);
  const summaryAgain = join(folder, `${name}-again`);
  // Node 20 may never get through its own clean-up at the end of a process that has cut connections: it is told to exit.
  const again = await npmUntilDeadline(
    [...leading, 'run', script, '--', '--runInBand', '--forceExit', ...failedFiles],
    {
      ...env,
      TEST_SUMMARY_FILE: summaryAgain,
    },
  );
  const { failed } = readCounts(summaryAgain);
  passes.push({ ok: again === 0, counts: { ...counts, passed: counts.passed + counts.failed - failed, failed } });
}

/** Without counts the tests did not get to their end: that is a failure, too. */
function readCounts(summaryFile) {
  try {
    return JSON.parse(readFileSync(summaryFile, 'utf8'));
  } catch {
    return { passed: 0, failed: 1, skipped: 0, failedFiles: [] };
  }
}

function npmUntilDeadline(args, env) {
  // A process group of its own: the kill reaches the tests below npm as well.
  const child = spawn('npm', args, {
    stdio: ['ignore', 'inherit', 'inherit'],
    detached: true,
    env: { ...process.env, ...env },
  });
  const timer = setTimeout(() => {
    console.error(`Killed: the time limit is reached (CI_TIME_LIMIT_S).`);
    process.kill(-child.pid, 'SIGKILL');
  }, deadline - Date.now());
  return new Promise((resolve) => {
    child.once('error', () => resolve(1));
    child.once('exit', (code) => resolve(code ?? 1));
  }).finally(() => clearTimeout(timer));
}
