import { SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';

import { defineSignal, RunFailedError } from '../../lib/index.js';
import { OrchestrationTelemetryModule } from '../../lib/telemetry/index.js';
import { closeApps, startApp, type TestApp } from '../support/app.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { RecordedSpans } from '../support/spans.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';

const spans = new RecordedSpans();
let database: TestDatabase;

beforeAll(() => spans.register());
afterAll(() => spans.unregister());

beforeEach(async () => {
  database = await createTestDatabase();
  spans.reset();
});

afterEach(async () => {
  await closeApps();
  await database.drop();
});

const Go = defineSignal('go');

const Payment = workflow({ name: 'payment', queue: 'payments' }, ({ ctx }) => ctx.step('pay', () => 42));
const Order = workflow('order', async ({ ctx, children }) => {
  await ctx.step('charge', () => trace.getTracer('http').startSpan('POST /charges').end());
  await children.call(Payment, undefined);
  await ctx.waitForSignal(Go);
  return ctx.step(
    'ship',
    ({ attempt }) => {
      if (attempt === 1) throw new Error('no truck');
      return 'shipped';
    },
    { retry: { initialInterval: 1 } },
  );
});

/** A process that executes the runs of one queue. */
function startWorker(queue: string): Promise<TestApp> {
  const imports = [OrchestrationTelemetryModule.forRoot()];
  return startApp({ database, providers: [Order, Payment], imports, options: { worker: { queues: [queue] } } });
}

const PAYMENT_TREE = ['start payment', '  run payment', '    step pay'];

const untilWaitsFor = (app: TestApp, runId: string, kind: string) =>
  until(`the run waits for a ${kind}`, async () => {
    const { status, waitingFor } = await app.orchestrator.get(runId);
    return status === 'waiting' && waitingFor[0]?.kind === kind;
  });

describe('the trace of a family', () => {
  it('79. 44. is one, below the span of the caller: over a wait, a child in another process, a crash and a replay', async () => {
    const payments = await startWorker('payments');
    const first = await startWorker('default');
    const run = await spans.inSpan('POST /orders', () => first.orchestrator.start(Order, undefined));
    await untilWaitsFor(first, run.id, 'signal');

    await first.crash();
    const second = await startWorker('default');
    await second.orchestrator.signal(run.id, Go);

    expect(await second.orchestrator.result(run.id)).toBe('shipped');
    await until('the last span has ended', () => spans.named('run order').length === 3);
    expect(spans.tree).toEqual([
      'POST /orders',
      '  start order',
      '    run order',
      '      step charge',
      '        POST /charges',
      '      start payment',
      '        run payment',
      '          step pay',
      '    run order',
      '    run order',
      '      step ship',
      '      step ship',
    ]);
    expect(spans.traceIds).toHaveLength(1);
    expect(spans.named('run order').map((span) => span.attributes['orchestration.outcome'])).toEqual([
      'waiting',
      'waiting',
      'completed',
    ]);
    expect(await payments.orchestrator.get(run.id)).toMatchObject({ status: 'completed' });
  });

  it('begins with the run when it has no caller, and each family has its own', async () => {
    const app = await startWorker('default');
    const payments = await startWorker('payments');

    await Promise.all([1, 2].map(async () => (await payments.orchestrator.start(Payment, undefined)).result()));
    await app.close();
    await payments.close();

    expect(spans.traceIds).toHaveLength(2);
    expect(spans.tree).toEqual([...PAYMENT_TREE, ...PAYMENT_TREE]);
  });

  it('is the one of its root where the run was started without telemetry, also after a crash', async () => {
    const plain = await startApp({ database, providers: [Order, Payment], options: { worker: false } });
    const payments = await startWorker('payments');
    const first = await startWorker('default');
    const run = await plain.orchestrator.start(Order, undefined);
    await untilWaitsFor(first, run.id, 'signal');

    await first.crash();
    await startWorker('default');
    await payments.orchestrator.signal(run.id, Go);
    await run.result();

    await until('the last span has ended', () => spans.named('run order').length === 3);
    expect(spans.traceIds).toEqual([run.id.replaceAll('-', '')]);
  });

  it('goes on to a child whose parent is executed without telemetry', async () => {
    const providers = [Order, Payment];
    const plain = await startApp({ database, providers, options: { worker: { queues: ['default'] } } });
    const payments = await startWorker('payments');
    const run = await spans.inSpan('POST /orders', () => payments.orchestrator.start(Order, undefined));
    await untilWaitsFor(plain, run.id, 'signal');
    await run.signal(Go);
    await run.result();
    await payments.close();

    const [caller, child] = ['POST /orders', 'run payment'].map((name) => spans.named(name)[0]!.spanContext().traceId);
    expect(spans.named('run order')).toEqual([]);
    expect(child).toBe(caller);
  });

  it('goes into the runs of startMany, of signalWithStart, and of a fork', async () => {
    const app = await startWorker('payments');
    const { orchestrator } = app;

    await spans.inSpan('POST /payments', async () => {
      const many = await orchestrator.startMany(Payment, [{ input: undefined }, { input: undefined }]);
      const one = await orchestrator.signalWithStart(Payment, undefined, Go, undefined, { key: 'one' });
      const original = await orchestrator.start(Payment, undefined, { key: 'two' });
      await original.result();
      const forked = await orchestrator.fork(original.id, { fromStep: 'pay' });
      await Promise.all([...many, one, forked].map((run) => run.result()));
    });
    await app.close();

    expect(spans.traceIds).toHaveLength(1);
    expect(spans.named('run payment')).toHaveLength(5);
    expect(spans.named('start payment')).toHaveLength(4);
    expect(spans.named('start fork')).toHaveLength(1);
  });
});

describe('a span', () => {
  it('says which run, version, step, attempt and tenant it is of', async () => {
    const payments = await startWorker('payments');
    const run = await payments.orchestrator.start(Payment, undefined, { tenant: 'acme', key: '4711' });
    await run.result();
    await payments.close();

    const common = {
      'orchestration.run.id': run.id,
      'orchestration.workflow': 'payment',
      'orchestration.version': 1,
      'orchestration.tenant': 'acme',
    };
    expect(spans.named('start payment')[0]).toMatchObject({
      kind: SpanKind.PRODUCER,
      attributes: { ...common, 'orchestration.queue': 'payments' },
    });
    expect(spans.named('run payment')[0]).toMatchObject({
      kind: SpanKind.CONSUMER,
      attributes: { ...common, 'orchestration.run.key': '4711', 'orchestration.outcome': 'completed' },
    });
    expect(spans.named('step pay')[0]!.attributes).toEqual({
      ...common,
      'orchestration.step': 'pay',
      'orchestration.attempt': 1,
    });
  });

  it('has the error of its attempt, and of its run', async () => {
    const Broken = workflow('broken', ({ ctx }) =>
      ctx.step('pay', () => Promise.reject(new TypeError('no money')), {
        retry: { maxAttempts: 2, initialInterval: 1 },
      }),
    );
    const app = await startApp({ database, providers: [Broken], imports: [OrchestrationTelemetryModule.forRoot()] });

    await expect(app.orchestrator.execute(Broken, undefined)).rejects.toThrow(RunFailedError);
    await app.close();

    const failed = { status: { code: SpanStatusCode.ERROR, message: 'no money' } };
    const exception = { name: 'exception', attributes: { 'exception.type': 'TypeError' } };
    expect(spans.named('step pay')).toMatchObject([
      { ...failed, events: [exception], attributes: { 'orchestration.attempt': 1 } },
      { ...failed, events: [exception], attributes: { 'orchestration.attempt': 2 } },
    ]);
    expect(spans.named('run broken')).toMatchObject([
      {
        status: { code: SpanStatusCode.ERROR },
        events: [{ attributes: { 'exception.type': 'StepFailedError' } }],
        attributes: { 'orchestration.outcome': 'failed' },
      },
    ]);
  });

  it('of a step is the parent of those of the steps and children in its body, also after a wait', async () => {
    const Outer = workflow('outer', ({ ctx, children }) =>
      ctx.step('both', async () => {
        await ctx.sleep(300);
        await ctx.step('inner', () => 1);
        return children.call(Payment, undefined);
      }),
    );
    await startWorker('payments');
    const imports = [OrchestrationTelemetryModule.forRoot()];
    const app = await startApp({
      database,
      providers: [Outer, Payment],
      imports,
      options: { worker: { queues: ['default'] } },
    });

    await app.orchestrator.execute(Outer, undefined);
    await app.close();

    const [both] = spans.named('step both');
    for (const name of ['step inner', 'start payment'])
      expect(spans.named(name)[0]!.parentSpanContext?.spanId).toBe(both!.spanContext().spanId);
  });

  it('of a run that its process gives up says so', async () => {
    const app = await startWorker('default');
    const Endless = workflow('endless', ({ ctx }) => ctx.step('hang', () => new Promise(() => {})));
    const imports = [OrchestrationTelemetryModule.forRoot()];
    const hanging = await startApp({
      database,
      providers: [Endless],
      imports,
      options: { worker: { shutdownTimeout: 1 } },
    });
    await hanging.orchestrator.start(Endless, undefined);
    await until(
      'the run has begun',
      async () => (await app.orchestrator.list({ status: 'running' })).items.length === 1,
    );

    await hanging.close();

    expect(spans.named('run endless')[0]!.attributes).toMatchObject({ 'orchestration.outcome': 'released' });
    expect(spans.named('step hang')[0]!.attributes).toMatchObject({ 'orchestration.outcome': 'abandoned' });
  });
});
