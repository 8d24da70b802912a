import pg from 'pg';

import { Barrier } from '../support/barrier.js';
import { closeApps, startApp, type TestApp } from '../support/app.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { rewindRun } from '../support/rewind.js';
import { until } from '../support/until.js';
import { untilStatus } from '../support/until-status.js';
import { workflow } from '../support/workflow.js';

const EVERYTHING = 1_000_000;

let database: TestDatabase;
/** The bodies that ran, of all deploys of a test. */
let bodies: string[];

beforeAll(async () => {
  database = await createTestDatabase();
});

beforeEach(() => {
  bodies = [];
});

afterEach(closeApps);

afterAll(() => database.drop());

type Code = Parameters<typeof workflow<void>>[1];
type Tools = Parameters<Code>[0];

/** A deploy: a process with this code. */
function deploy(...providers: NonNullable<Parameters<typeof startApp>[0]['providers']>): Promise<TestApp> {
  return startApp({ database, providers, options: { worker: { pollInterval: '20ms' } } });
}

function step({ ctx }: Tools, name: string): Promise<void> {
  return ctx.step(name, () => void bodies.push(name));
}

/** Starts a run under this code, lets it come to rest, and ends the process. */
async function startAndCrash(code: Code, name: string): Promise<string> {
  const app = await deploy(workflow(name, code), resting);
  const { id } = await app.orchestrator.start(name, undefined);
  await untilStatus(app, id, 'waiting');
  await app.crash();
  return id;
}

/** Waits until its parent is told to go on. */
const resting = workflow('resting', ({ ctx }) => ctx.sleep('30d'));

describe('a patched branch', () => {
  it('lets a run that a deploy has blocked complete, and nothing is run twice (scenario 4)', async () => {
    const old: Code = async (tools) => {
      await step(tools, 'charge');
      await step(tools, 'mail');
      await tools.ctx.sleep('400ms');
      await step(tools, 'ship');
      return 'shipped';
    };
    const changed: Code = async (tools) => {
      await step(tools, 'check');
      await step(tools, 'charge');
      await tools.ctx.sleep('400ms');
      await step(tools, 'ship');
      return 'checked and shipped';
    };
    const patched: Code = async (tools) => {
      const isNew = tools.ctx.patched('check-first');
      if (isNew) await step(tools, 'check');
      await step(tools, 'charge');
      if (!isNew) await step(tools, 'mail');
      await tools.ctx.sleep('400ms');
      await step(tools, 'ship');
      return isNew ? 'checked and shipped' : 'shipped';
    };
    const id = await startAndCrash(old, 'blocked-by-deploy');

    const broken = await deploy(workflow('blocked-by-deploy', changed));
    await untilStatus(broken, id, 'blocked');
    const blocked = await broken.orchestrator.get(id);
    await broken.close();
    const mended = await deploy(workflow('blocked-by-deploy', patched));
    const outputs = [
      await mended.orchestrator.result(id),
      await mended.orchestrator.execute('blocked-by-deploy', undefined),
    ];

    expect(outputs).toEqual(['shipped', 'checked and shipped']);
    expect(bodies).toEqual(['charge', 'mail', 'ship', 'check', 'charge', 'ship']);
    expect(blocked).toMatchObject({
      error: { name: 'NonDeterminismError', message: expect.stringContaining('ctx.patched(id)') as unknown },
    });
  });

  const change: Code = async (tools) => {
    const way = tools.ctx.patched('way') ? 'new' : 'old';
    await step(tools, `${way} one`);
    const again = tools.ctx.patched('way') ? 'new' : 'old';
    await step(tools, `${again} two`);
    return `${way} ${again}`;
  };

  it('is the same way in every replay, from every point, and is shown in the history', async () => {
    const changing = workflow('same-way', change);
    const { orchestrator } = await deploy(changing);
    const run = await orchestrator.start(changing, undefined);
    const outputs = [await run.result()];
    const history = await orchestrator.history(run.id);

    for (let kept = history.length; kept >= 0; kept--) {
      await rewindRun(database, run.id, kept);
      outputs.push(await orchestrator.result(run.id));
    }

    expect(outputs).toEqual(['new new', 'new new', 'new new', 'new new', 'new new']);
    expect(history.map(({ kind, key }) => `${kind} ${key}`)).toEqual(['patch way', 'step new one', 'step new two']);
  });

  it('is taken by a run that has recorded nothing beyond it, also one that was parked there', async () => {
    const id = await startAndCrash(async (tools) => {
      await step(tools, 'first');
      await tools.ctx.sleep('30d');
    }, 'parked-before');

    const app = await deploy(
      workflow('parked-before', async (tools) => {
        await step(tools, 'first');
        return tools.ctx.patched('no sleep') ? 'awake' : await tools.ctx.sleep('30d');
      }),
    );
    await rewindRun(database, id, EVERYTHING);

    expect(await app.orchestrator.result(id)).toBe('awake');
    expect(bodies).toEqual(['first']);
  });

  it.each<[string, (tools: Tools) => Promise<unknown>, (tools: Tools) => Promise<unknown>]>([
    ['an outcome', (tools) => step(tools, 'recorded'), (tools) => tools.ctx.sleep('30d')],
    [
      'a child that was called, and has not ended',
      (tools) => tools.children.call(resting, undefined, { ref: 'called' }),
      () => Promise.resolve(),
    ],
    [
      'the failed attempt of a step',
      (tools) =>
        tools.ctx.step(
          'failing',
          ({ attempt }) => {
            bodies.push(`failing ${attempt}`);
            throw new Error('not yet');
          },
          { retry: { initialInterval: '30d', jitter: 0 } },
        ),
      () => Promise.resolve(),
    ],
    [
      "a timed wait in a step's body that was left",
      ({ ctx }) => ctx.step('holding', () => ctx.sleep('30d')),
      () => Promise.resolve(),
    ],
    [
      "a child in a step's body that was left",
      ({ ctx, children }) => ctx.step('calling', () => children.call(resting, undefined, { ref: 'nested' })),
      () => Promise.resolve(),
    ],
  ])('is not taken by a run that has recorded %s beyond it', async (what, record, rest) => {
    const name = `beyond ${what}`;
    const id = await startAndCrash(async (tools) => {
      await record(tools);
      await rest(tools);
    }, name);
    const answers: boolean[] = [];

    const app = await deploy(
      workflow(name, async (tools) => {
        answers.push(tools.ctx.patched('another way'));
        if (answers.at(-1)) return 'another way';
        await record(tools);
        await rest(tools);
        return 'as before';
      }),
      resting,
    );
    await rewindRun(database, id, EVERYTHING);
    await untilStatus(app, id, 'waiting');
    await rewindRun(database, id, EVERYTHING);
    await untilStatus(app, id, 'waiting');

    expect(answers).toEqual([false, false]);
    await app.orchestrator.cancel(id);
    await until('it has ended', async () => (await app.orchestrator.get(id)).finishedAt !== undefined);
  });

  it('is taken behind a step that is over, whatever the attempts of that have recorded', async () => {
    const retrying = (tools: Tools) =>
      tools.ctx.step(
        'retrying',
        async ({ attempt }) => {
          await tools.ctx.sleep(1);
          await tools.children.start(resting, undefined, { ref: `of attempt ${attempt}` });
          if (attempt === 1) throw new Error('not yet');
        },
        { retry: { initialInterval: '1ms' } },
      );
    const id = await startAndCrash(async (tools) => {
      await retrying(tools);
      await tools.ctx.sleep('30d');
    }, 'behind-attempts');

    const app = await deploy(
      workflow('behind-attempts', async (tools) => {
        await retrying(tools);
        return tools.ctx.patched('no sleep');
      }),
      resting,
    );
    await rewindRun(database, id, EVERYTHING);

    expect(await app.orchestrator.result(id)).toBe(true);
  });

  it('is committed before the body of a step that follows it, and with what the code does upon it', async () => {
    const barrier = new Barrier();
    const held =
      (ways: string[]): Code =>
      async ({ ctx }) => {
        const way = ctx.patched('way') ? 'new' : 'old';
        ways.push(way);
        await ctx.step(way, () => barrier.pass());
        return way;
      };
    const doomed = await deploy(workflow('held-body', held([])));
    const { id } = await doomed.orchestrator.start('held-body', undefined);
    await barrier.reached();
    const recorded = await doomed.orchestrator.history(id);
    await doomed.crash();

    // Without the row this pass would decide anew; that it finds the row is what is tested, not that it decides alike.
    const ways: string[] = [];
    const app = await deploy(workflow('held-body', held(ways)));
    await barrier.reached(2);
    barrier.open();

    expect(await app.orchestrator.result(id)).toBe('new');
    expect(ways).toEqual(['new']);
    expect(recorded).toMatchObject([{ kind: 'patch', name: 'way' }]);
    expect(await app.orchestrator.history(id)).toMatchObject([{ kind: 'patch' }, { kind: 'step', name: 'new' }]);
  });

  it("is one in a step's body and in the run, whichever asks first, taken or not", async () => {
    const inBody = ({ ctx }: Tools, id: string) => ctx.step(`ask for ${id}`, () => ctx.patched(id));
    const asking: Code = async (tools) => {
      const early = tools.ctx.patched('early');
      await step(tools, 'first');
      return [early, await inBody(tools, 'early'), await inBody(tools, 'late'), tools.ctx.patched('late')];
    };
    const id = await startAndCrash(async (tools) => {
      await step(tools, 'first');
      await tools.ctx.sleep('30d');
    }, 'one-answer');
    const app = await deploy(workflow('one-answer', asking));
    await rewindRun(database, id, EVERYTHING);
    const outputs = [await app.orchestrator.result(id)];
    await rewindRun(database, id, EVERYTHING);
    outputs.push(await app.orchestrator.result(id));

    expect(outputs).toEqual([
      [false, false, true, true],
      [false, false, true, true],
    ]);
    expect(await app.orchestrator.execute('one-answer', undefined)).toEqual([true, true, true, true]);
  });

  it('that was decided by code of a parked run is kept, and the same afterwards', async () => {
    const arrival = new Barrier();
    const parking = workflow('decided-while-parked', async ({ ctx }) => {
      const late = async () => {
        await arrival.pass();
        const way = ctx.patched('late') ? 'new' : 'old';
        return ctx.step('late', () => way);
      };
      return Promise.race([ctx.sleep('30d'), late()]);
    });
    const app = await deploy(parking);
    const run = await app.orchestrator.start(parking, undefined);
    await untilStatus(app, run.id, 'waiting');

    arrival.open();
    const live = await run.result();
    const history = await app.orchestrator.history(run.id);
    await rewindRun(database, run.id, EVERYTHING);

    expect([live, await app.orchestrator.result(run.id)]).toEqual(['new', 'new']);
    expect(history.map(({ kind }) => kind).sort()).toEqual(['patch', 'step']);
  });

  it('stays when an operator retries the run, and is no divergence when its call is gone', async () => {
    let isMended = false;
    const ways: boolean[] = [];
    const code =
      (asks: boolean): Code =>
      async ({ ctx }) => {
        await ctx.step('first', () => 'first');
        if (asks) ways.push(ctx.patched('kept'));
        await ctx.step(
          'second',
          () => {
            if (!isMended) throw new Error('broken');
          },
          { retry: { maxAttempts: 1 } },
        );
        return 'done';
      };
    const first = await deploy(workflow('retried', code(true)));
    const run = await first.orchestrator.start('retried', undefined);
    await untilStatus(first, run.id, 'failed');
    isMended = true;
    await first.orchestrator.retry(run.id);
    const retried = await run.result();
    const history = await first.orchestrator.history(run.id);
    await first.close();

    const second = await deploy(workflow('retried', code(false)));
    await rewindRun(database, run.id, EVERYTHING);

    expect(retried).toBe('done');
    expect(ways).toEqual([true, true]);
    expect(history.filter(({ kind }) => kind === 'patch')).toHaveLength(1);
    expect(await second.orchestrator.result(run.id)).toBe('done');
  });

  it('needs an id', async () => {
    const { orchestrator } = await deploy(workflow('no-id', ({ ctx }) => ctx.patched('')));

    const error: unknown = await orchestrator.execute('no-id', undefined).catch((cause: unknown) => cause);

    expect(error).toMatchObject({
      cause: { name: 'ValidationError', message: 'ctx.patched: the id must be a text that is not empty' },
    });
  });
});

describe('versions of one name side by side', () => {
  const versioned = (version: number, hold: () => Promise<unknown> = () => Promise.resolve()) =>
    workflow({ name: 'side-by-side', version }, async ({ ctx }) => {
      await ctx.step('first', hold);
      await ctx.sleep(400);
      return ctx.step('last', () => `version ${ctx.version}`);
    });

  it('keep their runs; a class starts its own version, a name the highest (scenario 63)', async () => {
    const [one, two] = [versioned(1), versioned(2)];
    const { orchestrator } = await deploy(two, one);

    const runs = [
      await orchestrator.start(one, undefined),
      await orchestrator.start(two, undefined),
      await orchestrator.start('side-by-side', undefined),
    ];

    expect(await Promise.all(runs.map((run) => run.result()))).toEqual(['version 1', 'version 2', 'version 2']);
  });

  it('run in a rolling deploy each where their code is, and a name starts what a live worker has (scenario 63)', async () => {
    const barrier = new Barrier();
    const one = versioned(1, () => barrier.pass());
    const old = await deploy(one);
    const begun = await old.orchestrator.start(one, undefined);
    await barrier.reached();
    const recent = await deploy(versioned(2));

    // The old process knows only version 1 itself, and starts what the newer one has.
    const fromOld = await old.orchestrator.start('side-by-side', undefined);
    const outputFromOld = await fromOld.result();
    barrier.open();
    await untilStatus(old, begun.id, 'waiting');
    await old.close();
    await until('its timer has fired', async () => (await recent.orchestrator.get(begun.id)).status === 'pending');
    const left = await recent.orchestrator.get(begun.id);
    const both = await deploy(versioned(1), versioned(2));

    expect(outputFromOld).toBe('version 2');
    expect(left).toMatchObject({ version: 1, workerId: undefined });
    expect(await both.orchestrator.result(begun.id)).toBe('version 1');
  });
});

describe('a blocked run', () => {
  const old: Code = async (tools) => {
    await step(tools, 'charge');
    await tools.ctx.sleep('400ms');
    await step(tools, 'ship');
    return 'shipped';
  };
  let passes = 0;
  const changed: Code = async (tools) => {
    passes++;
    await step(tools, 'bill');
    return 'billed';
  };

  beforeEach(() => {
    passes = 0;
  });

  it('is tried again once by each worker that starts later, and by retry', async () => {
    const id = await startAndCrash(old, 'tried-again');
    const broken = workflow('tried-again', changed);

    const first = await deploy(broken);
    await until('it was tried', () => passes === 1);
    await untilStatus(first, id, 'blocked');
    const second = await deploy(broken);
    await until('it was tried again', () => passes === 2);
    await untilStatus(second, id, 'blocked');
    await first.orchestrator.retry(id);
    await until('it was tried once more', () => passes === 3);
    await untilStatus(first, id, 'blocked');
    const waiting = await first.orchestrator.result(id, { timeout: '300ms' }).catch((error: unknown) => error);

    // Ten looks of each worker later, nobody has tried it by himself.
    expect(passes).toBe(3);
    expect(waiting).toMatchObject({ code: 'RESULT_TIMEOUT' });
    expect(bodies).toEqual(['charge']);
    await first.close();
    await second.close();
    const mended = await deploy(workflow('tried-again', old));
    expect(await mended.orchestrator.result(id)).toBe('shipped');
    expect(bodies).toEqual(['charge', 'ship']);
  });

  it('is tried again with all the others, however many a deploy has blocked', async () => {
    const sql = new pg.Client({ connectionString: database.url });
    await sql.connect();
    await sql.query(
      `insert into orchestration.run (id, workflow, version, status, queue, input_digest, root_id, depth, created_at)
       select id, 'many-blocked', 1, 'blocked', 'nobody-serves', 'd', id, 1, now()
       from (select gen_random_uuid() as id from generate_series(1, 1201)) run`,
    );

    await deploy(workflow('many-blocked', old));
    const { rows } = await sql.query(
      `select status, epoch, count(*)::int as runs from orchestration.run where workflow = 'many-blocked' group by 1, 2`,
    );
    await sql.end();

    expect(rows).toEqual([{ status: 'pending', epoch: 1, runs: 1201 }]);
  });

  it('goes to the worker that starts, not to those that have blocked it and are still alive', async () => {
    const id = await startAndCrash(old, 'rolling');
    for (let count = 1; count <= 3; count++) {
      const broken = await deploy(workflow('rolling', changed));
      await until('it was tried', () => passes === count);
      await untilStatus(broken, id, 'blocked');
    }

    const mended = await deploy(workflow('rolling', old));

    expect(await mended.orchestrator.result(id)).toBe('shipped');
    expect(passes).toBe(3);
  });
});
