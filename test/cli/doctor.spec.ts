import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import pg from 'pg';

import type { OrchestrationModuleOptions, WorkflowClass } from '../../lib/index.js';
import { closeApps, startApp, type TestApp } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import { moveClock } from '../support/clock.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { HeldRows } from '../support/held-rows.js';
import { hasPgBouncer, PgBouncer } from '../support/pg-bouncer.js';
import { until } from '../support/until.js';
import { killWorkers, WorkerProcess } from '../support/worker-process.js';
import { workflow } from '../support/workflow.js';
import { command } from './command.js';

interface Finding {
  level: string;
  check: string;
  what: string;
  mend: string;
  runIds?: string[];
}

let database: TestDatabase;
let client: pg.Client;
let barrier: Barrier;

const Waiting = workflow('waiting', ({ ctx }) => ctx.waitForSignal('go'));
const Held = workflow('held', ({ ctx }) => ctx.step('hold', () => barrier.pass()));
const Sleeping = workflow('sleeping', ({ ctx }) => ctx.sleep(500));
const Other = workflow('other', () => 'done');

beforeEach(async () => {
  barrier = new Barrier();
  database = await createTestDatabase();
  client = new pg.Client({ connectionString: database.url });
  await client.connect();
});

afterEach(async () => {
  barrier.open();
  await HeldRows.releaseAll();
  await closeApps();
  await killWorkers();
  await client.end();
  await database.drop();
});

const boot = (providers: unknown[], options: OrchestrationModuleOptions = {}): Promise<TestApp> =>
  startApp({ database, providers: providers as never, options });

/** What it finds, and how it ends. */
async function doctor(...args: string[]): Promise<{ findings: Finding[]; exitCode: number | null }> {
  const { stdout, exitCode } = await command({ args: ['doctor', '--json', '--url', database.url, ...args] });
  return { findings: (JSON.parse(stdout) as { findings: Finding[] }).findings, exitCode };
}

async function parked(app: TestApp, type: WorkflowClass<void>, options = {}): Promise<string> {
  const { id } = await app.orchestrator.start(type, undefined, options);
  await until('it is parked', async () => (await app.orchestrator.get(id)).status === 'waiting');
  return id;
}

const found = (check: string, facts: Partial<Finding> = {}) =>
  expect.objectContaining({ check, level: 'problem', mend: expect.stringMatching(/\S/), ...facts });
const about = (...texts: string[]) => expect.stringMatching(new RegExp(texts.join('.*'))) as unknown as string;

describe('doctor', () => {
  it('finds nothing where nothing is wrong', async () => {
    await parked(await boot([Waiting]), Waiting);

    const text = await command({ args: ['doctor', '--url', database.url] });

    expect(await doctor()).toEqual({ findings: [], exitCode: 0 });
    expect(text.stdout).toBe('Nothing is wrong.\n');
  });

  it('says that the tables are behind, and looks no further', async () => {
    const { findings, exitCode } = await doctor();
    const text = await command({ args: ['doctor', '--url', database.url] });

    expect(findings).toEqual([found('schema', { mend: 'npx orchestration migrate' })]);
    expect(exitCode).toBe(1);
    expect(text.stdout).toMatch(
      /^✗ {2}schema\n {3}The tables .*\n {3}→ npx orchestration migrate\n\n1 problem, 0 notices\n$/,
    );
  });

  it('finds a worker that was killed, and that there is no other', async () => {
    const operator = await boot([], { worker: false });
    const worker = await WorkerProcess.start({ database, options: { worker: { lease: '1s' } } });
    const { id } = await operator.orchestrator.start('two-steps', undefined);
    await worker.until('it holds', ({ event, step }) => event === 'began' && step === 'held');
    await worker.kill();
    await until('its lease has ended', async () => (await doctorOf('dead-worker')).length > 0);

    const { findings } = await doctor();

    expect(findings).toEqual([
      found('no-worker'),
      found('dead-worker', { what: about(`process ${worker.pid} on`, 'with 1 run\\.') }),
    ]);
    expect((await operator.orchestrator.get(id)).status).toBe('running');
  });

  it('finds runs and schedules that no live worker has the code of, and queues that none serves', async () => {
    const old = await boot([Waiting, Other]);
    const id = await parked(old, Waiting);
    await old.orchestrator.schedules.upsert('nightly', { workflow: Waiting, cron: '0 3 * * *' });
    await old.close();
    const app = await boot([Other]);
    await app.orchestrator.start(Other, undefined, { queue: 'nowhere' });

    const { findings } = await doctor();

    expect(findings).toEqual([
      found('unserved-workflow', { what: about('1 run of waiting@1'), runIds: [id] }),
      found('unserved-queue', { what: about("1 run on the queue 'nowhere'") }),
      found('idle-schedule', { what: about("'nightly' starts runs of 'waiting'") }),
    ]);
  });

  it('finds runs that are blocked, with the reason', async () => {
    const before = workflow('changed', async ({ ctx }) => {
      await ctx.step('one', () => 1);
      await ctx.waitForSignal('go');
    });
    const after = workflow('changed', ({ ctx }) => ctx.step('two', () => 2));
    const old = await boot([before]);
    const id = await parked(old, before);
    await old.close();
    const app = await boot([after]);
    await app.orchestrator.signal(id, 'go');
    await until('it is blocked', async () => (await app.orchestrator.get(id)).status === 'blocked');

    const { findings } = await doctor();

    expect(findings).toEqual([
      found('blocked', { what: about('1 run of changed@1 is blocked', 'NonDeterminismError'), runIds: [id] }),
    ]);
  });

  it('finds what could have been claimed, and tells full workers from narrow limits', async () => {
    const app = await boot([Held, Other], {
      worker: { concurrency: 2, queues: ['default', 'narrow', 'away'] },
      queues: { narrow: { concurrency: 1 } },
    });
    await app.orchestrator.queues.pause('away');
    await app.orchestrator.start(Held, undefined, { queue: 'narrow' });
    await app.orchestrator.start(Held, undefined);
    await barrier.reached(2);
    for (const queue of ['default', 'narrow', 'away']) await app.orchestrator.start(Other, undefined, { queue });

    const busy = await doctor('--overdue-after', '1ms', '--silent-after', '1ms');
    const patient = await doctor();

    expect(busy.findings).toContainEqual(found('overdue', { what: about("'default'"), mend: about('more of them') }));
    expect(busy.findings).toContainEqual(found('overdue', { what: about("'narrow'"), mend: about('limits') }));
    expect(busy.findings).toContainEqual(found('silent', { what: about('of held@1 executes') }));
    expect(busy.findings).toContainEqual(
      expect.objectContaining({ check: 'paused-queue', level: 'notice', what: about("'away'") }),
    );
    expect(patient.findings.map(({ check }) => check)).not.toContain('overdue');
  });

  it('finds parked runs that nobody wakes', async () => {
    const app = await boot([Sleeping]);
    const id = await parked(app, Sleeping);
    await HeldRows.hold(database, id);

    await until(
      'its time has come',
      async () => (await doctorOf('overdue-timer', '--overdue-after', '1ms')).length > 0,
    );

    expect(await doctorOf('overdue-timer', '--overdue-after', '1h')).toEqual([]);
  });

  it('finds runs that kill their workers, and runs of a worker whose row is gone', async () => {
    let app = await boot([Held]);
    const { id } = await app.orchestrator.start(Held, undefined);
    for (let crashes = 1; crashes <= 3; crashes++) {
      await barrier.reached(crashes);
      await app.crash();
      app = await boot([Held]);
    }
    await barrier.reached(4);
    const crashing = await doctor();
    await app.crash();
    await client.query('delete from orchestration.worker');

    expect(crashing.findings).toEqual([found('crashing', { what: about('lost its worker 3 times'), runIds: [id] })]);
    expect(await doctorOf('orphan')).toEqual([found('orphan', { runIds: [id], mend: about(`retry ${id}`) })]);
  });

  it('finds long histories, and what was cancelled and does not end', async () => {
    const busy = workflow('busy', async ({ ctx }) => {
      for (let step = 0; step < 10; step++) await ctx.step('work', () => step);
      await ctx.waitForSignal('go');
    });
    const app = await boot([busy]);
    const id = await parked(app, busy);
    const long = await doctorOf('long-history', '--long-history', '10');
    await app.close();
    const operator = await boot([], { worker: false });
    await operator.orchestrator.cancel(id);
    await moveClock(database, 11 * 60_000);

    expect(long).toEqual([found('long-history', { what: about('has 10 entries'), runIds: [id] })]);
    expect(await doctorOf('unwinding')).toEqual([found('unwinding', { runIds: [id] })]);
  });

  it('finds a clock that was moved, or has gone back, and schedules that are late', async () => {
    const app = await boot([Waiting]);
    await app.orchestrator.schedules.upsert('often', { workflow: Waiting, every: '1m' });
    await app.close();
    await moveClock(database, -10 * 60_000);
    await boot([Waiting]).then((one) => parked(one, Waiting));
    await moveClock(database, -30 * 60_000);
    const back = await doctorOf('clock');
    await closeApps();
    await moveClock(database, 10 * 60_000);

    expect(back).toEqual([found('clock', { what: about('behind') }), found('clock', { what: about('gone back') })]);
    expect(await doctorOf('clock')).toEqual([found('clock', { what: about('ahead of') })]);
    expect(await doctorOf('idle-schedule')).toEqual([found('idle-schedule')]);
  });

  it('notices a machine whose own clock is wrong, which is no problem of the engine', async () => {
    await boot([Other]);
    const skewed = encodeURIComponent('const now = Date.now; Date.now = () => now() + 600_000;');
    const env = { NODE_OPTIONS: `--import=data:text/javascript,${skewed}` };

    const { stdout, exitCode } = await command({ args: ['doctor', '--json', '--url', database.url], env });

    expect(JSON.parse(stdout)).toEqual({
      findings: [{ check: 'clock', level: 'notice', what: about('10m.*ahead of'), mend: about('NTP') }],
    });
    expect(exitCode).toBe(0);
  });

  it('finds indexes that are missing or not valid, with the statement that makes them', async () => {
    await boot([Other]);
    await client.query('drop index orchestration.run_ready');
    await client.query('alter table orchestration.watch drop constraint watch_pkey');
    await client.query(`update pg_index set indisvalid = false where indexrelid = 'orchestration.run_timer'::regclass`);

    const { findings } = await doctor();
    for (const { mend } of findings)
      await client.query(
        mend
          .slice(mend.indexOf(': ') + 2)
          .replace('create index run_timer', 'reindex index orchestration.run_timer --'),
      );

    expect(findings.map(({ check, what }) => `${check}: ${what.split(':')[0]}`)).toEqual([
      'missing-index: The index watch_pkey is missing',
      'missing-index: The index run_ready is missing',
      'missing-index: The index run_timer is not valid',
    ]);
    expect(await doctor()).toEqual({ findings: [], exitCode: 0 });
  });

  it('finds that the database takes no writes', async () => {
    const app = await boot([Other]);
    await app.close();
    await client.query(`alter database ${database.name} set default_transaction_read_only = on`);

    expect(await doctorOf('read-only')).toEqual([found('read-only', { mend: about('primary') })]);
  });
});

(hasPgBouncer ? describe : describe.skip)('doctor behind PgBouncer in transaction mode', () => {
  let bouncer: PgBouncer;

  afterEach(() => bouncer.stop());

  it('finds that notifications do not come through, and the other commands work', async () => {
    await parked(await boot([Waiting]), Waiting, { key: 'one' });
    bouncer = await PgBouncer.start(database.connection);
    const { host, port, username, password } = bouncer.connection;
    const url = `postgres://${username}:${password}@${host}:${port}/${database.name}`;

    const diagnosed = await command({ args: ['doctor', '--json', '--url', url] });
    const listed = await command({ args: ['list', '--url', url] });

    expect(diagnosed.json()).toEqual({ findings: [found('pooler', { mend: about('listenUrl') })] });
    expect(listed).toMatchObject({ exitCode: 0, stdout: expect.stringContaining('one') });
  });
});

async function doctorOf(check: string, ...args: string[]): Promise<Finding[]> {
  return (await doctor(...args)).findings.filter((finding) => finding.check === check);
}
