import { defineSignal, StartLimitError, type WorkflowClass } from '../../lib/index.js';
import { engineOf, startApp, type TestApp } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import { type EngineDatabase, useEngineDatabase } from '../support/engine-database.js';
import { measure } from '../support/statements.js';
import { sentBy } from '../support/budget.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';

/*
 * What the code of a new run does up to its first wait is committed with the run itself, if it only starts children and waits. Each of these
 * lets a process see once that a workflow begins like that, and forces what may come between the next opening and its commit.
 */
const Go = defineSignal<string>('go');

let opened: EngineDatabase;
let child: Barrier;
let begun: string[];

useEngineDatabase((database) => (opened = database));

beforeEach(() => {
  child = new Barrier();
  begun = [];
});

const Child = workflow('child', ({ ctx }) => ctx.step('work', () => child.pass().then(() => 'from the child')));
const Parent = workflow('parent', ({ ctx, children }) => {
  begun.push(ctx.runId);
  return children.call(Child, undefined);
});

interface Row {
  id: string;
  workflow: string;
  status: string;
  epoch: number;
  waiting_for: string | null;
}

async function rows(): Promise<Row[]> {
  const columns = 'id, workflow, status, epoch, waiting_for';
  return (await opened.sql.query<Row>(`select ${columns} from orchestration.run order by id`)).rows;
}

/** The process has seen how the workflow's runs begin, and nothing is left of that but what it knows. */
async function show(app: TestApp, Workflow: WorkflowClass<void>): Promise<void> {
  child.open();
  const run = await app.orchestrator.start(Workflow, undefined);
  await until('the run waits', async () => ['waiting', 'completed'].includes(await run.status()));
  await app.orchestrator.signal(run.id, Go, 'shown').catch(() => {});
  await run.result();
  await opened.sql.query('truncate orchestration.run, orchestration.history');
  child = new Barrier();
  begun = [];
}

/** What starts from now on is committed, and the process does not hear of it before the barrier opens. */
async function holdReplyToStart(app: TestApp): Promise<Barrier> {
  const { store } = await engineOf(app);
  const start = store.start.bind(store);
  const reply = new Barrier();
  store.start = async (...args) => {
    const outcomes = await start(...args);
    await reply.pass();
    return outcomes;
  };
  return reply;
}

async function isAtRest(app: TestApp): Promise<void> {
  const { worker } = await engineOf(app);
  await until('no slot is taken', () => worker!.load.running === 0);
  expect(worker!.load).toEqual({ running: 0, parked: 0 });
}

describe('the opening of a run', () => {
  it('is committed with it: the run waits and its child runs, by one statement', async () => {
    const app = await startApp({ database: opened.database, providers: [Parent, Child] });
    await show(app, Parent);
    const events: string[] = [];
    app.orchestrator.events$.subscribe(({ type, workflow: name }) => events.push(`${name} ${type}`));
    const measured = await measure(opened.database, () => app.orchestrator.start(Parent, undefined));

    expect(sentBy(measured)).toEqual([expect.stringMatching(/^1 × with request/)]);
    expect(await rows()).toMatchObject([
      {
        workflow: 'parent',
        status: 'waiting',
        epoch: 1,
        waiting_for: '[{"kind":"child","name":"child#1","until":null}]',
      },
      { workflow: 'child', status: 'running', epoch: 1 },
    ]);
    expect(begun).toHaveLength(1);
    expect(events).toEqual(['parent run.started', 'parent run.waiting', 'child run.started']);
    child.open();
    await until('both have ended', async () => (await rows()).every(({ status }) => status === 'completed'));
    await isAtRest(app);
  });

  it('may be a wait for a signal', async () => {
    const Waiting = workflow('waiting', ({ ctx }) => ctx.waitForSignal(Go));
    const app = await startApp({ database: opened.database, providers: [Waiting] });
    await show(app, Waiting);
    const run = await app.orchestrator.start(Waiting, undefined);

    expect(await rows()).toMatchObject([{ status: 'waiting', epoch: 1 }]);
    await run.signal(Go, 'went');
    expect(await run.result()).toBe('went');
    await isAtRest(app);
  });

  it('has the time of the start in what is recorded of it', async () => {
    const app = await startApp({ database: opened.database, providers: [Parent, Child] });
    await show(app, Parent);
    const run = await app.orchestrator.start(Parent, undefined);
    child.open();
    await run.result();

    const { startedAt } = await app.orchestrator.get(run.id);
    expect((await app.orchestrator.history(run.id)).map((entry) => entry.startedAt)).toEqual([startedAt]);
  });

  it('writes to the log once, and when it is committed', async () => {
    const lines: string[] = [];
    const logger = { log: (line: string) => lines.push(line), error() {}, warn() {}, debug() {}, verbose() {} };
    const Logging = workflow<boolean>('logging', async ({ ctx, children }, callsFirst) => {
      const { logger: own } = ctx;
      own.log(`begins ${callsFirst}`);
      if (!callsFirst) await ctx.step('first', () => 1);
      await children.call(Child, undefined);
      own.log('goes on');
    });
    const app = await startApp({ database: opened.database, providers: [Logging, Child], logger });
    child.open();
    await app.orchestrator.execute(Logging, true);
    lines.length = 0;
    await app.orchestrator.execute(Logging, true);
    await app.orchestrator.execute(Logging, false);

    expect(lines).toEqual(['begins true', 'goes on', 'begins false', 'goes on']);
  });

  it('is gone on with by another process after a crash', async () => {
    const app = await startApp({ database: opened.database, providers: [Parent, Child] });
    await show(app, Parent);
    const run = await app.orchestrator.start(Parent, undefined);
    await child.reached();
    await app.crash();
    child.open();
    const other = await startApp({ database: opened.database, providers: [Parent, Child] });

    await until('both have ended', async () => (await rows()).every(({ status }) => status === 'completed'));
    expect(await other.orchestrator.get(run.id)).toMatchObject({ output: 'from the child' });
    expect(await rows()).toHaveLength(2);
  });

  it('is gone on with by another process when its own dies before it hears of the commit', async () => {
    const app = await startApp({ database: opened.database, providers: [Parent, Child] });
    await show(app, Parent);
    const reply = await holdReplyToStart(app);
    void app.orchestrator.start(Parent, undefined);
    await reply.reached();
    expect((await rows()).map(({ status }) => status)).toEqual(['waiting', 'running']);
    await app.crash();
    child.open();
    await startApp({ database: opened.database, providers: [Parent, Child] });

    await until('both have ended', async () => (await rows()).every(({ status }) => status === 'completed'));
    expect(begun).toHaveLength(2);
  });

  it('is dropped when its run was cancelled, and claimed, before it hears of the commit', async () => {
    const app = await startApp({ database: opened.database, providers: [Parent, Child] });
    await show(app, Parent);
    const reply = await holdReplyToStart(app);
    const starting = app.orchestrator.start(Parent, undefined);
    await reply.reached();
    const [parent] = await rows();
    await app.orchestrator.cancel(parent!.id, { reason: 'changed my mind' });
    await until('it is claimed', async () => (await rows())[0]!.epoch > 1);
    reply.open();

    await expect((await starting).result({ timeout: '10s' })).rejects.toMatchObject({ reason: 'changed my mind' });
    await until('its child is over', async () => (await rows()).every(({ status }) => status === 'cancelled'));
    await isAtRest(app);
  });

  it('leaves its slot to its child, and 200 of them in 200 slots need no claim', async () => {
    const app = await startApp({
      database: opened.database,
      providers: [Parent, Child],
      options: { worker: { concurrency: 200, pollInterval: '1m', lease: '10m' } },
    });
    await show(app, Parent);
    child.open();
    const measured = await measure(opened.database, () =>
      Promise.all(Array.from({ length: 200 }, () => app.orchestrator.execute(Parent, undefined))),
    );

    expect([...measured.byQuery.keys()].filter((text) => text.includes('skip locked'))).toEqual([]);
    expect(new Set((await rows()).map(({ status, epoch }) => `${status} ${epoch}`))).toEqual(new Set(['completed 1']));
    await isAtRest(app);
  });

  it('keeps a worker with one slot at one body at a time', async () => {
    let [bodies, most] = [0, 0];
    const Leaf = workflow('leaf', ({ ctx }) =>
      ctx.step('work', async () => {
        most = Math.max(most, ++bodies);
        await new Promise((resolve) => setTimeout(resolve, 5));
        bodies--;
      }),
    );
    const Two = workflow('two', ({ children }) =>
      Promise.all([children.call(Leaf, undefined), children.call(Leaf, undefined)]),
    );
    const app = await startApp({
      database: opened.database,
      providers: [Two, Leaf],
      options: { worker: { concurrency: 1 } },
    });
    await show(app, Two);
    await Promise.all(Array.from({ length: 5 }, () => app.orchestrator.execute(Two, undefined)));

    expect(most).toBe(1);
    await isAtRest(app);
  });

  it('reaches its children with its cancellation', async () => {
    const app = await startApp({ database: opened.database, providers: [Parent, Child] });
    await show(app, Parent);
    const run = await app.orchestrator.start(Parent, undefined);
    await run.cancel({ reason: 'changed my mind' });

    await expect(run.result({ timeout: '5s' })).rejects.toMatchObject({ code: 'RUN_CANCELLED' });
    expect((await rows()).map(({ status }) => status)).toEqual(['cancelled', 'cancelled']);
  });
});

describe('there is no opening', () => {
  it('of a run that asks for the time, which is that of its start', async () => {
    const times: Date[] = [];
    const Timed = workflow('timed', ({ ctx, children }) => {
      times.push(ctx.now());
      return children.call(Child, undefined);
    });
    const app = await startApp({ database: opened.database, providers: [Timed, Child] });
    await show(app, Timed);
    times.length = 0;
    const run = await app.orchestrator.start(Timed, undefined);
    await child.reached();

    expect(times).toHaveLength(2);
    expect(times[1]).toEqual((await app.orchestrator.get(run.id)).startedAt);
    child.open();
    expect(await run.result()).toBe('from the child');
    // From now on it is not tried.
    await app.orchestrator.execute(Timed, undefined);
    expect(times).toHaveLength(3);
    await isAtRest(app);
  });

  it('of a run that begins with a step this time, whose body runs once and after the start', async () => {
    let bodies = 0;
    const Either = workflow<'step' | 'child'>('either', async ({ ctx, children }, first) => {
      begun.push(first);
      if (first === 'step') return ctx.step('body', () => ++bodies);
      return children.call(Child, undefined);
    });
    const app = await startApp({ database: opened.database, providers: [Either, Child] });
    child.open();
    for (const first of ['child', 'step', 'step', 'child', 'child'] as const)
      await app.orchestrator.execute(Either, first);

    // It was expected of the second, begun for nothing once, and not expected again until the fourth.
    expect(begun).toEqual(['child', 'step', 'step', 'step', 'child', 'child']);
    expect(bodies).toBe(2);
    await isAtRest(app);
  });

  it.each([
    { has: 'a key', options: { key: 'once' } },
    { has: 'a time-out', options: { timeout: '1h' } },
    { has: 'a delay', options: { delay: '50ms' } },
  ] as const)('of a run that has $has', async ({ options }) => {
    const app = await startApp({ database: opened.database, providers: [Parent, Child] });
    await show(app, Parent);
    const run = await app.orchestrator.start(Parent, undefined, options);

    expect((await rows())[0]!.status).not.toBe('waiting');
    child.open();
    expect(await run.result()).toBe('from the child');
    await app.orchestrator.start(Parent, undefined, options);
    await until('all have begun', async () => (await rows()).every(({ status }) => status !== 'pending'));
    expect(begun).toHaveLength('key' in options ? 1 : 2);
  });

  it('of a run that starts more than a hundred children', async () => {
    const Many = workflow('many', ({ children }) =>
      children.map(
        Child,
        Array.from({ length: 101 }, () => undefined),
      ),
    );
    const app = await startApp({ database: opened.database, providers: [Many, Child] });
    await show(app, Many);
    const run = await app.orchestrator.start(Many, undefined);

    expect((await rows())[0]!.status).toBe('running');
    child.open();
    expect(await run.result()).toHaveLength(101);
  });
});

describe('when an opening is not committed', () => {
  it('because the tenant has used its starts up, nothing is left of it', async () => {
    const app = await startApp({
      database: opened.database,
      providers: [Parent, Child],
      options: { tenants: { startLimit: { limit: 1, per: '1h' } }, worker: { concurrency: 1 } },
    });
    await show(app, Parent);
    child.open();
    await app.orchestrator.execute(Parent, undefined, { tenant: 'small' });
    const refused = app.orchestrator.start(Parent, undefined, { tenant: 'small' });

    await expect(refused).rejects.toThrow(StartLimitError);
    expect(await rows()).toHaveLength(2);
    expect(begun).toHaveLength(2);
    // The one slot is free.
    expect(await app.orchestrator.execute(Parent, undefined, { tenant: 'other' })).toBe('from the child');
    await isAtRest(app);
  });

  it('because the database refuses a child, the start is refused, and nothing is left of it', async () => {
    const app = await startApp({
      database: opened.database,
      providers: [Parent, Child],
      options: { worker: { concurrency: 1 } },
    });
    await show(app, Parent);
    await opened.sql.query(`
      create function refuse() returns trigger language plpgsql as $$ begin raise 'no child'; end $$;
      create trigger refuse before insert on orchestration.run for each row when (new.parent_id is not null) execute function refuse()`);
    const refused = app.orchestrator.start(Parent, undefined);

    await expect(refused).rejects.toThrow('no child');
    expect(await rows()).toEqual([]);
    await opened.sql.query('drop trigger refuse on orchestration.run; drop function refuse()');
    child.open();
    expect(await app.orchestrator.execute(Parent, undefined)).toBe('from the child');
    await isAtRest(app);
  });

  it('because the worker has no lease by then, the run waits for its claim, and begins anew', async () => {
    const options = { worker: { lease: '10m', pollInterval: '1m' } } as const;
    const app = await startApp({ database: opened.database, providers: [Parent, Child], options });
    await show(app, Parent);
    await opened.sql.query("update orchestration.worker set expires_at = expires_at - interval '1h'");
    const run = await app.orchestrator.start(Parent, undefined);

    expect(await rows()).toMatchObject([{ workflow: 'parent', status: 'pending', epoch: 0 }]);
    expect(begun).toHaveLength(1);
    await opened.sql.query("update orchestration.worker set expires_at = expires_at + interval '1h'");
    (await engineOf(app)).worker!.lookAgain();
    await child.reached();
    expect(begun).toEqual([run.id, run.id]);
    child.open();
    expect(await run.result()).toBe('from the child');
    await isAtRest(app);
  });

  it('because something more urgent waits where its child is to begin, the child is claimed after that', async () => {
    const order: number[] = [];
    const Busy = workflow<number>({ name: 'busy', queue: 'busy' }, ({ ctx }, no) =>
      ctx.step('work', () => order.push(no)),
    );
    const Calling = workflow('calling', ({ ctx, children }) => {
      begun.push(ctx.runId);
      return children.call(Busy, 2);
    });
    const options = { worker: { queues: ['default', 'busy'], concurrency: 4 } };
    const app = await startApp({ database: opened.database, providers: [Calling, Busy], options });
    await show(app, Calling);
    const { store } = await engineOf(app);
    const claim = store.claim.bind(store);
    store.claim = () => Promise.resolve([]);
    await app.orchestrator.queues.pause('busy');
    const first = await app.orchestrator.start(Busy, 1, { priority: 0 });
    await opened.sql.query(`update orchestration.run set gated = false`);
    await app.orchestrator.queues.resume('busy');
    await until('this process knows of no gate', async () => {
      const { worker } = await engineOf(app);
      worker!.lookAgain();
      return !(worker as unknown as { gates: { has(queue: string): boolean } }).gates.has('busy');
    });
    const run = await app.orchestrator.start(Calling, undefined);

    await until('it waits for its child', async () => (await run.status()) === 'waiting');
    expect(begun).toHaveLength(2);
    store.claim = claim;
    (await engineOf(app)).worker!.lookAgain();
    await Promise.all([first.result(), run.result()]);
    expect(order.slice(-2)).toEqual([1, 2]);
    await isAtRest(app);
  });
});
