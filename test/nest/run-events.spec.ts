import { type LoggerService, Controller, Injectable, Scope } from '@nestjs/common';
import { firstValueFrom, toArray } from 'rxjs';

import { DefinitionError, OnRunEvent, Orchestrator, type RunEvent, RunContext, Workflow } from '../../lib/index.js';
import { startApp, type TestApp } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import { type EngineDatabase, useEngineDatabase } from '../support/engine-database.js';
import { HeldRows } from '../support/held-rows.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';

let opened: EngineDatabase;
useEngineDatabase((made) => (opened = made));

let heard: string[];
beforeEach(() => (heard = []));

type Setup = Omit<Parameters<typeof startApp>[0], 'database'>;
const start = (setup: Setup) => startApp({ database: opened.database, ...setup });

/** All that the app tells until it is closed. */
async function eventsOf(app: TestApp, work: () => Promise<unknown>): Promise<RunEvent[]> {
  const events = firstValueFrom(app.orchestrator.events$.pipe(toArray()));
  await work();
  await app.close();
  return events;
}

@Workflow('paid')
class PaidWorkflow {
  constructor(private readonly ctx: RunContext) {}

  async run(fails: boolean): Promise<string> {
    return this.ctx.step(
      'pay',
      async () => {
        if (fails) throw new Error('declined');
        return 'paid';
      },
      { retry: { maxAttempts: 1 } },
    );
  }
}

@Workflow('other')
class OtherWorkflow {
  async run(): Promise<never> {
    throw new Error('no');
  }
}

class Base {
  @OnRunEvent('failed')
  anyFailed({ workflow: name }: RunEvent): void {
    heard.push(`any ${name}`);
  }
}

@Injectable()
class Audit extends Base {
  constructor(private readonly orchestrator: Orchestrator) {
    super();
  }

  @OnRunEvent('run.failed', { workflow: PaidWorkflow })
  @OnRunEvent('completed', { workflow: 'paid' })
  async ended({ type, runId }: RunEvent): Promise<void> {
    const result = await this.orchestrator.result<string>(runId).catch((error: unknown) => (error as Error).name);
    heard.push(`${type}: ${result}`);
  }
}

@Controller()
class Alarm {
  @OnRunEvent('step.failed')
  step({ step, attempts }: RunEvent): void {
    heard.push(`${step} after ${attempts}`);
  }
}

describe('@OnRunEvent', () => {
  it('calls methods with the events of their type and workflow, as code that is in no run', async () => {
    const app = await start({
      providers: [PaidWorkflow, OtherWorkflow, Audit, { provide: 'alias', useExisting: Audit }, Alarm],
    });

    await app.orchestrator.execute(PaidWorkflow, false);
    await app.orchestrator.execute(PaidWorkflow, true).catch(() => {});
    await app.orchestrator.execute(OtherWorkflow, undefined).catch(() => {});
    await until('all are heard', () => heard.length >= 5);

    expect(heard.toSorted()).toEqual([
      'any other',
      'any paid',
      'pay after 1',
      'run.completed: paid',
      'run.failed: RunFailedError',
    ]);
  });

  it('logs what a listener throws, and the run goes on', async () => {
    const errors: string[] = [];
    const logger: LoggerService = { log() {}, warn() {}, error: (message: unknown) => errors.push(String(message)) };

    @Injectable()
    class Broken {
      @OnRunEvent('step.completed')
      sync(): void {
        throw new Error('at once');
      }

      @OnRunEvent('run.started')
      async async(): Promise<void> {
        throw new Error('later');
      }
    }
    const app = await start({ providers: [PaidWorkflow, Broken], logger });

    const run = await app.orchestrator.start(PaidWorkflow, false);

    expect(await run.result()).toBe('paid');
    await until('both are logged', () => errors.length >= 2);
    expect(errors.toSorted()).toEqual([
      expect.stringMatching(`^Broken.async failed on run.started of run ${run.id}: Error: later\n`),
      expect.stringMatching(`^Broken.sync failed on step.completed of run ${run.id}: Error: at once\n`),
    ]);
  });

  it('is checked at boot', async () => {
    @Injectable({ scope: Scope.REQUEST })
    class PerRequest {
      @OnRunEvent('failed')
      failed(): void {}
    }
    @Injectable()
    class Wrong {
      @OnRunEvent('faild' as 'failed')
      misspelt(): void {}

      @OnRunEvent('failed', { workflow: Wrong })
      noWorkflow(): void {}

      @OnRunEvent('failed', { queue: 'default' } as object)
      unknown(): void {}
    }

    const error = await start({ providers: [Wrong, PerRequest] }).catch((thrown: unknown) => thrown);

    expect(error).toBeInstanceOf(DefinitionError);
    expect((error as DefinitionError).problems.toSorted()).toEqual([
      'PerRequest.failed: @OnRunEvent: its provider must be one instance for the whole app, neither transient nor request-scoped',
      "Wrong.misspelt: @OnRunEvent: there are no events 'faild'; did you mean 'run.failed'?",
      'Wrong.noWorkflow: @OnRunEvent: Wrong has no @Workflow()',
      "Wrong.unknown: @OnRunEvent: unknown option 'queue' (known: workflow)",
    ]);
  });
});

describe('orchestrator.events$', () => {
  it('tells of runs that a cancellation ends by itself, with those below them, once and where it was asked for', async () => {
    const child = workflow('child', async ({ ctx }) => ctx.sleep('1h'));
    const parent = workflow('parent', async ({ children }) => children.call('child', undefined));
    const worker = await start({ providers: [child, parent] });
    const client = await start({ options: { worker: false } });
    const delayed = await worker.orchestrator.start('child', undefined, { delay: '1h' });
    const running = await worker.orchestrator.start('parent', undefined);
    await until('the child sleeps', async () => {
      const { items } = await running.children();
      return items[0]?.status === 'waiting';
    });
    const toldByWorker: RunEvent[] = [];
    worker.orchestrator.events$.subscribe((event) => toldByWorker.push(event));

    const told = await eventsOf(client, async () => {
      await client.orchestrator.cancel(delayed.id);
      await client.orchestrator.cancel(running.id, { mode: 'terminate' });
    });
    const own = await worker.orchestrator.start('child', undefined, { delay: '1h' });
    await worker.orchestrator.cancel(own.id);

    expect(told).toHaveLength(3);
    expect(told[0]).toMatchObject({ type: 'run.cancelled', runId: delayed.id, workflow: 'child', rootId: delayed.id });
    expect(told.slice(1)).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ type: 'run.cancelled', runId: running.id, workflow: 'parent', parentId: undefined }),
        expect.objectContaining({ type: 'run.cancelled', workflow: 'child', parentId: running.id, rootId: running.id }),
      ]),
    );
    expect(told[0]!.at).toEqual((await worker.orchestrator.get(delayed.id)).finishedAt);
    expect(toldByWorker.map(({ type, runId }) => [type, runId])).toEqual([['run.cancelled', own.id]]);
  });

  it('does not tell that a run waits when something came before its park', async () => {
    const gate = new Barrier();
    const sleeping = workflow('sleeping', async ({ ctx }) => {
      await ctx.step('before', () => gate.pass());
      await ctx.sleep('1h');
    });
    const app = await start({ providers: [sleeping] });
    const events: string[] = [];
    app.orchestrator.events$.subscribe(({ type }) => events.push(type));
    const run = await app.orchestrator.start('sleeping', undefined);
    await gate.reached();
    await opened.sql.query('begin');
    await opened.sql.query('update orchestration.run set wakes = wakes + 1 where id = $1', [run.id]);
    const held = await HeldRows.hold(opened.database);

    gate.open();
    await held.untilWaiting(1);
    await opened.sql.query('commit');
    await until('the run is parked', async () => (await app.orchestrator.get(run.id)).status === 'waiting');
    await until('that is told', () => events.includes('run.waiting'));

    expect(events).toEqual(['run.started', 'step.completed', 'run.waiting']);
  });
});
