import pg from 'pg';

import { closeApps, startApp, type TestApp } from '../support/app.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { errorOf } from '../support/error-of.js';
import { HeldRows } from '../support/held-rows.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';

let database: TestDatabase;
let app: TestApp;
let client: pg.Client;

const leaf = workflow('leaf', ({ ctx }, ms: number) => ctx.sleep(ms));
const branch = workflow('branch', async ({ ctx, children }, ms: number) => {
  await ctx.step('first', () => 'first');
  await children.start(leaf, ms, { ref: 'leaf' });
});
const tree = workflow('tree', async ({ children }, ms: number) => {
  await children.call(branch, ms, { ref: 'branch' });
});
const failing = workflow('failing', () => {
  throw new Error('broken');
});

beforeAll(async () => {
  database = await createTestDatabase();
  client = new pg.Client({ connectionString: database.url });
  await client.connect();
});

beforeEach(async () => {
  const awaiting = workflow('awaiting', ({ children }, runId: string) => children.await(runId));
  const holding = workflow('holding', async ({ ctx, children }) => {
    await children.call(leaf, 0, { ref: 'leaf' });
    await ctx.sleep('30d');
  });
  const providers = [leaf, branch, tree, failing, awaiting, holding];
  app = await startApp({ database, providers, options: { worker: { pollInterval: '20ms' } } });
});

afterEach(async () => {
  await HeldRows.releaseAll();
  await closeApps();
});

afterAll(async () => {
  await client.end();
  await database.drop();
});

async function rowsOf(runIds: string[]): Promise<number> {
  const { rows } = await client.query<{ rows: number }>(
    `select ((select count(*) from orchestration.run where id = any($1)) + (select count(*) from orchestration.history where run_id = any($1))
       + (select count(*) from orchestration.signal where run_id = any($1)) + (select count(*) from orchestration.watch where run_id = any($1) or watcher_id = any($1)))::int as rows`,
    [runIds],
  );
  return rows[0]!.rows;
}

async function familyOf(runId: string): Promise<string[]> {
  const { children } = await app.orchestrator.tree(runId);
  return [runId, ...(await Promise.all(children.map(({ id }) => familyOf(id)))).flat()];
}

describe('deleting a run', () => {
  it('leaves nothing of it and of its descendants, and frees its key', async () => {
    const run = await app.orchestrator.start(tree, 0, { key: 'mine', delay: 100 });
    await app.orchestrator.signal(run.id, 'unread', 'payload');
    await run.result();
    const family = await familyOf(run.id);
    await until('all have ended', async () =>
      (await Promise.all(family.map((id) => app.orchestrator.get(id)))).every(({ finishedAt }) => finishedAt),
    );
    const other = await app.orchestrator.start(tree, 0, { key: 'other' });
    await other.result();

    await app.orchestrator.delete(run.id);

    expect(family).toHaveLength(3);
    expect(await rowsOf(family)).toBe(0);
    expect(await errorOf(app.orchestrator.get(run.id))).toMatchObject({ code: 'RUN_NOT_FOUND' });
    expect(await errorOf(app.orchestrator.result(run.id))).toMatchObject({ code: 'RUN_NOT_FOUND' });
    expect((await app.orchestrator.start(tree, 1, { key: 'mine' })).started).toBe(true);
    expect((await app.orchestrator.get(other.id)).status).toBe('completed');
  });

  it('is refused while it is active, with what to do', async () => {
    const run = await app.orchestrator.start(leaf, 3_600_000);

    expect(await errorOf(app.orchestrator.delete(run.id))).toMatchObject({
      code: 'RUN_NOT_FINISHED',
      runId: run.id,
      message: expect.stringContaining('cancel it first') as unknown,
    });
    await run.cancel();
    await until('it has ended', async () => (await run.status()) === 'cancelled');
    await app.orchestrator.delete(run.id);
    expect(await rowsOf([run.id])).toBe(0);
  });

  it('is refused while a descendant is active, which is named, and leaves all as it was', async () => {
    const run = await app.orchestrator.start(tree, 3_600_000);
    await run.result();
    const family = await familyOf(run.id);
    const before = await rowsOf(family);

    expect(await errorOf(app.orchestrator.delete(run.id))).toMatchObject({
      code: 'RUN_NOT_FINISHED',
      runId: family[2],
      message: expect.stringContaining(`descendant of run ${run.id}`) as unknown,
    });
    expect(await rowsOf(family)).toBe(before);
    await app.orchestrator.cancel(family[2]!);
  });

  it('is refused while its parent is active, whose code may ask for it again', async () => {
    const parent = await app.orchestrator.start('holding', undefined);
    await until('it sleeps', async () => (await app.orchestrator.history(parent.id)).length === 1);
    const [, child] = await familyOf(parent.id);

    expect(await errorOf(app.orchestrator.delete(child!))).toMatchObject({
      code: 'RUN_NOT_FINISHED',
      runId: parent.id,
      message: expect.stringContaining(`it needs run ${child}`) as unknown,
    });
    await parent.cancel();
    await until('it has ended', async () => (await parent.status()) === 'cancelled');
    await app.orchestrator.delete(child!);
    expect(await rowsOf([child!])).toBe(0);
  });

  it('is refused while a run that waits for it has not heard of its end', async () => {
    const clients = await startApp({ database, options: { worker: false } });
    const run = await app.orchestrator.start(leaf, 3_600_000);
    const waiting = await app.orchestrator.start('awaiting', run.id);
    await until('it waits', async () => (await waiting.status()) === 'waiting');
    await app.close();
    await clients.orchestrator.cancel(run.id, { mode: 'terminate' });

    const refused = await errorOf(clients.orchestrator.delete(run.id));
    app = await startApp({
      database,
      providers: [workflow('awaiting', ({ children }, id: string) => children.await(id))],
    });
    await errorOf(app.orchestrator.result(waiting.id));
    await clients.orchestrator.delete(run.id);

    expect(refused).toMatchObject({ code: 'RUN_NOT_FINISHED', runId: waiting.id });
    expect(await rowsOf([run.id])).toBe(0);
    expect(await app.orchestrator.get(waiting.id)).toMatchObject({ error: { name: 'ChildCancelledError' } });
  });

  it('that waited for another leaves no note of that wait, though the other one stays', async () => {
    const awaited = await app.orchestrator.start(leaf, 0);
    const waiting = await app.orchestrator.start('awaiting', awaited.id);
    await waiting.result();

    await app.orchestrator.delete(waiting.id);

    expect(await rowsOf([waiting.id])).toBe(0);
    expect(await awaited.status()).toBe('completed');
  });

  it('and retrying it exclude each other: whoever is second finds what the first has done (forced)', async () => {
    const run = await app.orchestrator.start(failing, undefined);
    await errorOf(run.result());
    const held = await HeldRows.hold(database, run.id);
    const retrying = app.orchestrator.retry(run.id);
    await held.untilWaiting(1);
    const deleting = errorOf(app.orchestrator.delete(run.id));
    await held.untilWaiting(2);
    await held.release();

    await retrying;
    expect(await deleting).toMatchObject({ code: 'RUN_NOT_FINISHED' });
    await until('it has failed again', async () => (await run.status()) === 'failed');

    const heldAgain = await HeldRows.hold(database, run.id);
    const deletingFirst = app.orchestrator.delete(run.id);
    await heldAgain.untilWaiting(1);
    const retryingSecond = errorOf(app.orchestrator.retry(run.id));
    await heldAgain.untilWaiting(2);
    await heldAgain.release();

    await deletingFirst;
    expect(await retryingSecond).toMatchObject({ code: 'RUN_NOT_FOUND' });
    expect(await rowsOf([run.id])).toBe(0);
  });

  it.each(['01890a5d-ac96-774b-bcce-b302099a8057', 'no id'])('of no run (%s) is a RunNotFoundError', async (id) => {
    expect(await errorOf(app.orchestrator.delete(id))).toMatchObject({ code: 'RUN_NOT_FOUND', runId: id });
  });
});
