import pg from 'pg';

import { checkReplay } from '../../lib/engine/replay-check.js';
import { closeApps, engineOf, startApp, type TestApp } from '../support/app.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { untilStatus } from '../support/until-status.js';
import { workflow } from '../support/workflow.js';

/** Texts that a codec of PostgreSQL cannot make much shorter. */
const LONG = Array.from({ length: 2_000 }, (_, index) => (index * index).toString(36)).join('');
const SHORT = 'short';

let database: TestDatabase;
let sql: pg.Client;
/** What a step's body does to the row of its run, before it returns. */
let meanwhile: (runId: string) => Promise<unknown>;

const Maker = workflow<string, string>('maker', ({ ctx }, text) =>
  ctx.step('make', async () => {
    await meanwhile(ctx.runId);
    return text;
  }),
);

/** Both have ended before either is recorded. */
const Two = workflow<void, string>('two', async ({ ctx }) => {
  const both = [ctx.step('make', () => LONG), ctx.step('other', () => Promise.resolve(SHORT))] as const;
  const [long] = await Promise.all(both);
  return long;
});

beforeAll(async () => {
  database = await createTestDatabase();
  sql = new pg.Client({ connectionString: database.url });
  await sql.connect();
});

beforeEach(() => {
  meanwhile = () => Promise.resolve();
});

afterEach(() => closeApps());

afterAll(async () => {
  await sql.end();
  await database.drop();
});

const start = (): Promise<TestApp> =>
  startApp({ database, providers: [Maker, Two], options: { worker: { pollInterval: '30s' } } });

/** Where a run's outputs are stored: how often in its history, whether in its own row, and how many entries refer to that. */
async function storedTexts(runId: string): Promise<{ history: number; run: number; marks: number }> {
  const { rows } = await sql.query<{ history: number; run: number; marks: number }>(
    `select (select count(output)::int from orchestration.history where run_id = r.id) as history, count(r.output)::int as run,
       (select count(*)::int from orchestration.history where run_id = r.id and output_in_run) as marks
     from orchestration.run r where r.id = $1 group by r.id`,
    [runId],
  );
  return rows[0]!;
}

/** What the history shows, the long text by its name. */
const outputsOf = async (app: TestApp, runId: string) =>
  (await app.orchestrator.history(runId)).map(({ name, output }) => [name, output === LONG ? 'LONG' : output]);

describe('A long result of a step that is also the result of its run', () => {
  it.each([
    ['nothing happens to the run meanwhile', () => Promise.resolve()],
    [
      'somebody waits for it in another process',
      (runId: string) => sql.query('update orchestration.run set watched = true where id = $1', [runId]),
    ],
  ])('is stored once, and read in both places: %s', async (_when, happens) => {
    meanwhile = happens;
    const app = await start();
    const run = await app.orchestrator.start(Maker, LONG);

    expect(await run.result()).toBe(LONG);
    expect(await storedTexts(run.id)).toEqual({ history: 0, run: 1, marks: 1 });
    expect(await app.orchestrator.get(run.id)).toMatchObject({ output: LONG });
    expect(await outputsOf(app, run.id)).toEqual([['make', 'LONG']]);
    await checkReplay(await engineOf(app), run.id);
  });

  it('is stored in both places when it is short', async () => {
    const app = await start();
    const run = await app.orchestrator.start(Maker, SHORT);
    await run.result();

    expect(await storedTexts(run.id)).toEqual({ history: 1, run: 1, marks: 0 });
    expect(await outputsOf(app, run.id)).toEqual([['make', SHORT]]);
  });

  it('stays with the step when the run is cancelled before it can end', async () => {
    const app = await start();
    meanwhile = (runId) =>
      sql.query(`update orchestration.run set cancel_requested_at = now(), cancel_reason = 'late' where id = $1`, [
        runId,
      ]);
    const run = await app.orchestrator.start(Maker, LONG);
    await untilStatus(app, run.id, 'cancelled');

    expect(await storedTexts(run.id)).toEqual({ history: 1, run: 0, marks: 0 });
    expect(await outputsOf(app, run.id)).toEqual([['make', 'LONG']]);
  });

  it('is copied into a fork that shares the step', async () => {
    const app = await start();
    const original = await app.orchestrator.start(Two, undefined);
    await original.result();
    expect(await storedTexts(original.id)).toEqual({ history: 1, run: 1, marks: 1 });

    const fork = await app.orchestrator.fork<string>(original.id, { fromStep: 'other' });

    expect(await fork.result()).toBe(LONG);
    expect(await outputsOf(app, fork.id)).toEqual([
      ['make', 'LONG'],
      ['other', SHORT],
    ]);
    await app.orchestrator.delete(original.id);
    expect(await outputsOf(app, fork.id)).toContainEqual(['make', 'LONG']);
  });
});
