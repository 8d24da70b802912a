import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { Controller, Injectable, Post } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import type { Observable } from 'rxjs';
import type { EntityManager } from 'typeorm';
import ts from 'typescript';
import { z } from 'zod';

import * as api from '../lib/index.js';
import {
  type ChildHandle,
  ChildOrchestrator,
  defineSignal,
  embeddedPostgres,
  type HistoryEntry,
  InjectOrchestrator,
  NonRetryableError,
  OrchestrationModule,
  Orchestrator,
  type Page,
  type PendingInput,
  type RunDetails,
  RunContext,
  type RunEvent,
  type RunHandle,
  type RunStatus,
  type RunSummary,
  type RunTree,
  type Schedule,
  type ScheduleSummary,
  type SettledChild,
  Step,
  type StoredError,
  type WaitingFor,
  Workflow,
  type WorkflowHandler,
} from '../lib/index.js';

const root = fileURLToPath(new URL('..', import.meta.url));

const ERRORS = [
  ...['CancelledError', 'ChildCancelledError', 'ChildFailedError', 'ChildRefConflictError', 'ChildTimeoutError'],
  ...['DatabaseUnavailableError', 'DefinitionError', 'DepthLimitError', 'EmbeddedDatabaseError', 'NonDeterminismError'],
  ...['InputNotPendingError', 'InputTimeoutError'],
  ...['NonRetryableError', 'NotInRunError', 'OrchestrationError', 'PayloadError', 'ResultTimeoutError'],
  ...[
    'RunCancelledError',
    'RunConflictError',
    'RunFailedError',
    'RunFinishedError',
    'RunNotFinishedError',
    'RunNotFoundError',
  ],
  ...[
    'RunTimeoutError',
    'SchemaBehindError',
    'SignalTimeoutError',
    'StartLimitError',
    'StepFailedError',
    'StepInterruptedError',
    'StepTimeoutError',
    'ValidationError',
  ],
  'WorkflowNotRegisteredError',
];

describe('The package', () => {
  it('exports what is promised, and nothing by accident', () => {
    const promised = [
      ...[
        'ChildOrchestrator',
        'InjectOrchestrator',
        'OnRunEvent',
        'OrchestrationModule',
        'Orchestrator',
        'RunContext',
        'Step',
        'Workflow',
      ],
      ...['AesGcmPayloadCodec', 'Flow', 'causedBy', 'defineSignal', 'embeddedPostgres', 'goTo', 'rootCause'],
      ...ERRORS,
    ];
    const beside = [
      'FlowError',
      'InputNotJudgedError',
      'InsideRunError',
      'InsideStepError',
      'NotInTransactionError',
      'RunPoisonedError',
      'ScheduleNotFoundError',
      'UnreadablePayloadError',
      'stopEmbeddedPostgres',
    ];

    expect(Object.keys(api).toSorted()).toEqual([...promised, ...beside].toSorted());
  });

  it('has errors that extend OrchestrationError', () => {
    const exported = new Map<string, unknown>(Object.entries(api));
    const strangers = ERRORS.filter((name) => {
      const error = exported.get(name) as { prototype: unknown };
      return name !== 'OrchestrationError' && !(error.prototype instanceof api.OrchestrationError);
    });

    expect(strangers).toEqual([]);
  });

  it('has the members that are promised on each of its injectables', () => {
    const membersOf = (type: { prototype: object }) => Object.getOwnPropertyNames(type.prototype);

    expect(membersOf(Orchestrator)).toEqual(
      expect.arrayContaining([
        ...['start', 'startMany', 'execute', 'result', 'get', 'findByKey', 'history', 'tree', 'list', 'listChildren'],
        ...['cancel', 'retry', 'pause', 'resume', 'delete', 'fork'],
        ...['signal', 'signalWithStart'],
        ...['explain'],
      ]),
    );
    expect(membersOf(ChildOrchestrator)).toEqual(
      expect.arrayContaining(['call', 'callSettled', 'start', 'await', 'map', 'list', 'get', 'cancel', 'signal']),
    );
    expect(membersOf(RunContext)).toEqual(
      expect.arrayContaining([
        ...['runId', 'workflow', 'version', 'key', 'parentId', 'rootId', 'tenant', 'attributes', 'signal', 'logger'],
        ...['now', 'random', 'uuid', 'sleep', 'sleepUntil', 'sleepUntilNext', 'step', 'currentStep', 'manager', 'all'],
        ...['allSettled', 'race', 'any', 'map', 'shield', 'setState', 'setAttributes', 'patched'],
        ...['waitForSignal', 'waitForInput', 'continueAsNew', 'compensate', 'commit'],
      ]),
    );
  });

  describe('as npm packs it', () => {
    let folder: string;
    let files: string[];

    beforeAll(() => {
      folder = mkdtempSync(join(tmpdir(), 'orchestration-package-'));
      const packed = execFileSync('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], {
        cwd: root,
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      const [{ filename, files: listed }] = JSON.parse(packed.toString()) as [
        { filename: string; files: { path: string }[] },
      ];
      files = listed.map(({ path }) => path);
      const installed = join(folder, 'node_modules/nestjs-orchestration');
      mkdirSync(installed, { recursive: true });
      execFileSync('tar', ['-xzf', join(folder, filename), '-C', installed, '--strip-components=1']);
      // What it depends on; its own folder shows that nothing is taken from this checkout.
      symlinkSync(join(root, 'node_modules'), join(installed, 'node_modules'), 'junction');
    });

    afterAll(() => rmSync(folder, { recursive: true }));

    const run = (flag: string, code: string) =>
      execFileSync(
        process.execPath,
        ['--disable-warning=ExperimentalWarning', `--input-type=${flag}`, '--eval', code],
        {
          cwd: folder,
          encoding: 'utf8',
        },
      );

    it('has the code, its types, the schematics and what a user reads, and nothing else', () => {
      const { exports, types, schematics } = JSON.parse(
        readFileSync(join(folder, 'node_modules/nestjs-orchestration/package.json'), 'utf8'),
      ) as { exports: Record<string, { types: string; default: string }>; types: string; schematics: string };
      const entries = [exports['.']!, exports['./testing']!].flatMap((entry) => [entry.types, entry.default]);
      const named = [...entries, types, schematics].map((path) => path.slice(2));

      expect(files).toEqual(expect.arrayContaining([...named, 'CHANGELOG.md', 'LICENSE', 'README.md', 'package.json']));
      expect(files.filter((path) => !/^(dist\/|CHANGELOG\.md|LICENSE|README\.md|package\.json)/.test(path))).toEqual(
        [],
      );
      expect(files.filter((path) => /\.spec\.|^dist\/test\//.test(path))).toEqual([]);
    });

    it('has the types of a package with it: ctx.manager is the EntityManager of TypeORM', () => {
      const file = join(folder, 'consumer.mts');
      writeFileSync(
        file,
        `import type { RunContext } from 'nestjs-orchestration';
        export const isActive = (ctx: RunContext): boolean => ctx.manager.queryRunner!.isTransactionActive;`,
      );
      const { NodeNext } = ts.ModuleKind;
      const program = ts.createProgram([file], {
        ...{ module: NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext, target: ts.ScriptTarget.ES2022 },
        ...{ strict: true, noEmit: true, skipLibCheck: true, experimentalDecorators: true, types: [] },
      });

      const problems = ts.getPreEmitDiagnostics(program).map(({ messageText }) => messageText);

      expect(problems).toEqual([]);
    });

    it.each([
      ['an ECMAScript module', 'module', `import * as api from 'nestjs-orchestration';`],
      ['CommonJS', 'commonjs', `const api = require('nestjs-orchestration');`],
    ])('loads in %s with the same names', (_kind, flag, load) => {
      const names = run(flag, `${load} console.log(JSON.stringify(Object.keys(api)))`);

      expect((JSON.parse(names) as string[]).toSorted()).toEqual(Object.keys(api).toSorted());
    });

    it('has its test bed at a path of its own', () => {
      const load = `import * as testing from 'nestjs-orchestration/testing';`;

      expect(run('module', `${load} console.log(Object.keys(testing).join())`).trim()).toBe('OrchestrationTestBed');
    });
  });
});

/*
 * What follows is compiled, not run: `tsc` checks that the examples of the contract compile and that types are inferred.
 */

type Equal<A, B> = [A, B] extends [B, A] ? true : false;
function expectType<Actual, Expected>(..._proof: Equal<Actual, Expected> extends true ? [] : [never]): void {}
const typeOf = <T>(_value: T): T => _value;

interface OrderInput {
  id: string;
  email: string;
}
interface OrderResult {
  total: number;
  paymentId: string;
}

const Approve = defineSignal<{ by: string }>('approve');
const Stop = defineSignal<void>('stop');
const Amount = defineSignal('amount', { schema: z.object({ amount: z.string().transform(Number) }) });

@Workflow('payment')
class PaymentWorkflow {
  async run(input: { amount: number }): Promise<{ id: string }> {
    return { id: `paid-${input.amount}` };
  }
}

@Workflow({ name: 'email', version: 2, queue: 'emails', timeout: '1h' })
class EmailWorkflow {
  run(input: { to: string }): void {
    void input;
  }
}

@Injectable()
class PaymentsService {
  @Step({ name: 'charge', nonRetryable: [TypeError, 'PaymentDeclined'], retryIf: (error) => error !== undefined })
  async charge(amount: number): Promise<string> {
    if (amount < 0) throw new NonRetryableError('a negative amount');
    return 'charged';
  }
}

@Workflow({ name: 'order', version: 1, queue: 'default', timeout: '2d' })
class OrderWorkflow implements WorkflowHandler<OrderInput, OrderResult> {
  constructor(
    private readonly children: ChildOrchestrator,
    private readonly ctx: RunContext,
    private readonly payments: PaymentsService,
  ) {}

  async run(order: OrderInput): Promise<OrderResult> {
    const total = await this.price(order);
    const payment = await this.children.call(PaymentWorkflow, { amount: total }, { ref: 'payment', timeout: '1h' });
    const email = await this.children.start(EmailWorkflow, { to: order.email }, { ref: 'confirmation' });
    expectType<typeof payment, { id: string }>();
    expectType<typeof email, ChildHandle<void>>();
    await this.more(email);
    return { total, paymentId: payment.id };
  }

  @Step({
    retry: { maxAttempts: 5, initialInterval: '1s', backoffCoefficient: 2, maxInterval: '1m', jitter: 0.2 },
    timeout: '10s',
  })
  async price(order: OrderInput): Promise<number> {
    const { attempt, idempotencyKey, signal } = this.ctx.currentStep;
    expectType<typeof attempt, number>();
    expectType<typeof idempotencyKey, string>();
    expectType<typeof signal, AbortSignal>();
    return order.id.length;
  }

  private anything() {
    return this.ctx.waitForInput('anything', { type: 'form' });
  }

  private async more(email: ChildHandle<void>): Promise<void> {
    const { children, ctx } = this;
    const amount = { amount: 1 };

    const late = await children.call(PaymentWorkflow, amount, {
      timeout: 0,
      timeoutValue: 'late',
      onTimeout: 'abandon',
    });
    expectType<typeof late, { id: string } | string>();
    const settled = await children.callSettled(PaymentWorkflow, amount, { parentClose: 'cancel', cancellation: 'try' });
    expectType<typeof settled, SettledChild<{ id: string }>>();
    if (settled.status === 'completed') expectType<typeof settled.value, { id: string }>();
    else typeOf<Error>(settled.error);
    const byName = await children.call<{ id: string }>('payment', amount, {
      inherit: ['attributes'],
      queue: 'q',
      priority: 1,
    });
    expectType<typeof byName, { id: string }>();
    const outputs = await children.map(PaymentWorkflow, [amount], {
      ref: (input, i) => `${input.amount}-${i}`,
      concurrency: 2,
    });
    expectType<typeof outputs, { id: string }[]>();
    const decided = await children.map(PaymentWorkflow, [amount], { minSuccessful: 1 });
    expectType<typeof decided, SettledChild<{ id: string }>[]>();
    const other = await children.await<number>('id', { timeout: '5m', timeoutValue: 0 });
    expectType<typeof other, number>();
    await children.start('email', {}, { detached: true, label: 'x', attributes: { city: 'Oslo' } });
    expectType<Awaited<ReturnType<typeof children.list>>, Page<RunSummary>>();
    await children.get('payment');
    await children.cancel('payment', 'not needed');
    expectType<Awaited<ReturnType<typeof email.result>>, void>();
    expectType<Awaited<ReturnType<typeof email.status>>, RunStatus>();
    await email.cancel();
    await email.signal(Approve, { by: 'Ada' });
    await email.signal('approve', { by: 'Ada' }, { scope: 'tree' });
    await children.signal('payment', Stop);
    await children.signal('payment', Amount, { amount: '12' }, { id: 'once' });
    const approval = await ctx.waitForSignal(Approve, { timeout: '15s', timeoutValue: null });
    expectType<typeof approval, { by: string } | null>();
    expectType<Awaited<ReturnType<typeof ctx.waitForSignal<number>>>, number>();
    const parsed = await ctx.waitForSignal(Amount);
    expectType<typeof parsed, { amount: number }>();

    const reserved = await ctx.step(
      'reserve',
      async ({ attempt, idempotencyKey, signal }) => ({ attempt, idempotencyKey, signal }),
      { timeout: '5s' },
    );
    expectType<typeof reserved, { attempt: number; idempotencyKey: string; signal: AbortSignal }>();
    expectType<ReturnType<typeof ctx.now>, Date>();
    const won = await ctx.race({ paid: () => children.call(PaymentWorkflow, amount), late: () => ctx.sleep('15s') });
    if (won.winner === 'paid') expectType<typeof won.value, { id: string }>();
    const all = await ctx.all({ a: () => ctx.step('a', () => 1), b: () => 'b' });
    expectType<typeof all, { a: number; b: string }>();
    const each = await ctx.allSettled({ a: () => 1 });
    if (each.a.status === 'fulfilled') expectType<typeof each.a.value, number>();
    const mapped = await ctx.map([1, 2], async (item, i) => item + i, { concurrency: 10 });
    expectType<typeof mapped, number[]>();
    expectType<Awaited<ReturnType<typeof ctx.any<{ a: () => number }>>>, { winner: 'a'; value: number }>();
    const approved = await ctx.waitForInput('refund', { type: 'approval', prompt: 'Refund?', timeout: '2d' });
    expectType<typeof approved, boolean>();
    const size = await ctx.waitForInput('size', { type: 'choice', choices: ['small', 'large'] });
    expectType<typeof size, 'small' | 'large'>();
    const note = await ctx.waitForInput('note', { type: 'text', timeout: 0, timeoutValue: null });
    expectType<typeof note, string | null>();
    const schema = z.object({ count: z.coerce.number() });
    const form = await ctx.waitForInput('form', { type: 'form', schema, timeout: '1h', timeoutValue: 'late' });
    expectType<typeof form, { count: number } | string>();
    expectType<Awaited<ReturnType<typeof this.anything>>, unknown>();
    await ctx.shield(async () => this.payments.charge(1));
    await ctx.sleepUntil(new Date());
    void ctx.setState({ progress: 0.5 });
    await ctx.setAttributes({ city: 'Oslo', vip: true, total: 1, gone: null });
    ctx.logger.log(
      `${ctx.runId} ${ctx.workflow} ${ctx.version} ${ctx.key} ${ctx.parentId} ${ctx.rootId} ${ctx.tenant}`,
    );
    expectType<typeof ctx.signal, AbortSignal>();

    // @ts-expect-error choices of what is no choice
    await ctx.waitForInput('refund', { type: 'approval', choices: ['yes', 'no'] });
    // @ts-expect-error a choice of nothing
    await ctx.waitForInput('size', { type: 'choice' });
    // @ts-expect-error the input is inferred from the class
    await children.call(PaymentWorkflow, { amount: 'one' });
    // @ts-expect-error an option that a call has not
    await children.call(PaymentWorkflow, amount, { detached: true });
    // @ts-expect-error a duration needs a unit that there is
    await ctx.sleep('3 days');
  }
}

@Controller('orders')
class OrdersController {
  constructor(
    private readonly orchestrator: Orchestrator,
    @InjectOrchestrator('reports') readonly reports: Orchestrator,
  ) {}

  @Post()
  async place(order: OrderInput, manager: EntityManager): Promise<OrderResult> {
    const { orchestrator } = this;
    const run = await orchestrator.start(OrderWorkflow, order, {
      ...{ key: order.id, onConflict: 'reject', queue: 'q', priority: 1, delay: '1m', timeout: '1h', tenant: 't' },
      ...{ label: 'l', attributes: { city: 'Oslo' }, manager },
    });
    expectType<typeof run, RunHandle<OrderResult>>();
    expectType<typeof run.started, boolean>();
    const many = await orchestrator.startMany(OrderWorkflow, [{ input: order, key: order.id, startAt: new Date() }]);
    expectType<typeof many, RunHandle<OrderResult>[]>();
    const byName = await orchestrator.execute<OrderResult>('order', order);
    expectType<typeof byName, OrderResult>();
    expectType<Awaited<ReturnType<typeof run.status>>, RunStatus>();
    await run.children({ status: 'failed', limit: 10 });
    const { cancelled, requested } = await run.cancel({ reason: 'r', mode: 'terminate' });
    typeOf<number[]>([cancelled, requested]);

    const details = await orchestrator.get(run.id);
    expectType<typeof details, RunDetails>();
    if (details.status === 'completed') typeOf<unknown>(details.output);
    if (details.status === 'failed') expectType<typeof details.error, StoredError>();
    // @ts-expect-error only a completed run has an output
    typeOf(details.output);
    expectType<typeof details.waitingFor, WaitingFor[]>();
    typeOf<
      [string, string, number, string | undefined, boolean, string, number, string | undefined, string | undefined]
    >([
      ...([details.id, details.workflow, details.version, details.key, details.paused, details.queue] as const),
      ...([details.priority, details.tenant, details.label] as const),
    ]);
    typeOf<[string | undefined, string | undefined, string, number, Date, Date | undefined, Date | undefined, number]>([
      ...([details.parentId, details.ref, details.rootId, details.depth, details.createdAt] as const),
      ...([details.startedAt, details.wakeAt, details.recoveries] as const),
    ]);
    typeOf<RunDetails | undefined>(await orchestrator.findByKey(OrderWorkflow, order.id));
    expectType<Awaited<ReturnType<typeof orchestrator.history>>, HistoryEntry[]>();
    expectType<Awaited<ReturnType<typeof orchestrator.tree>>, RunTree>();
    const page = await orchestrator.list({
      workflow: 'order',
      status: ['failed'],
      rootOnly: true,
      search: 'x',
      limit: 5,
    });
    expectType<typeof page, Page<RunSummary>>();
    await orchestrator.listChildren(run.id, { cursor: page.nextCursor });
    await orchestrator.retry(run.id);
    await orchestrator.delete(run.id);
    await run.signal(Approve, { by: 'Ada' });
    await orchestrator.signal(run.id, Approve, { by: 'Ada' }, { id: 'once', manager, scope: 'tree' });
    await orchestrator.signal({ workflow: OrderWorkflow, key: order.id }, Stop);
    await orchestrator.signal({ workflow: 'order', key: order.id }, 'any', { thing: 1 }, { scope: 'run' });
    const same = await orchestrator.signalWithStart(...([OrderWorkflow, order, Approve, { by: 'Ada' }] as const), {
      key: order.id,
      id: 'once',
      queue: 'q',
      manager,
    });
    expectType<typeof same, RunHandle<OrderResult>>();
    const inputs = await orchestrator.inputs.list({ workflow: 'order', expiringBefore: new Date(), limit: 5 });
    expectType<typeof inputs, Page<PendingInput>>();
    typeOf<[string, string, string, string, string | undefined, string[] | undefined, Date | undefined][]>(
      inputs.items.map(({ runId, workflow, name, type, prompt, choices, expiresAt }) => [
        ...([runId, workflow, name, type, prompt, choices, expiresAt] as const),
      ]),
    );
    expectType<Awaited<ReturnType<typeof orchestrator.inputs.provide>>, void>();
    expectType<typeof orchestrator.events$, Observable<RunEvent>>();

    const schedule = await orchestrator.schedules.upsert('daily', {
      workflow: OrderWorkflow,
      input: order,
      cron: '0 9 * * *',
      timeZone: 'Europe/Oslo',
      overlap: 'buffer',
      missed: 'all',
      jitter: '1m',
    });
    expectType<typeof schedule, Schedule>();
    expectType<Awaited<ReturnType<typeof orchestrator.schedules.get>>, Schedule>();
    expectType<Awaited<ReturnType<typeof orchestrator.schedules.list>>, Page<ScheduleSummary>>();
    typeOf<(Date | undefined)[]>([schedule.lastRunAt, schedule.nextRunAt]);
    expectType<Awaited<ReturnType<typeof orchestrator.schedules.trigger>>, RunHandle>();
    await orchestrator.schedules.upsert('by name', { workflow: 'order', every: '1h' });
    const counted = await orchestrator.bulk({ filter: { workflow: 'order' }, action: 'cancel' }, { dryRun: true });
    typeOf<number[]>([counted.matched, counted.done]);
    const { runs, queues, workflows, oldestDueAt, tables } = await orchestrator.stats();
    typeOf<unknown[]>([runs.completed, queues, workflows, oldestDueAt, tables]);
    const [worker] = await orchestrator.workers.list();
    if (worker) typeOf<unknown[]>([worker.host, worker.pid, worker.startedAt, worker.heartbeatAt, worker.running]);

    // @ts-expect-error a schedule is by cron or by every
    await orchestrator.schedules.upsert('both', { workflow: 'order', cron: '0 9 * * *', every: '1h' });
    // @ts-expect-error the input of its runs is inferred from the class
    await orchestrator.schedules.upsert('wrong', { workflow: OrderWorkflow, input: { id: 1 }, every: '1h' });
    // @ts-expect-error the input is inferred from the class
    await orchestrator.start(OrderWorkflow, { id: 1 });
    // @ts-expect-error the payload is that of the signal
    await orchestrator.signal(run.id, Approve, { by: 1 });
    // @ts-expect-error this signal has a payload
    await orchestrator.signal(run.id, Approve);
    return run.result({ timeout: '10s' });
  }
}

/** The module's options as the contract shows them. */
const modules = () => [
  OrchestrationModule.forRoot({
    name: undefined,
    dataSource: 'default',
    schema: 'orchestration',
    migrate: true,
    worker: {
      ...{ concurrency: 100, queues: ['default'], lease: '30s', shutdownTimeout: '20s', maxRecoveries: 10 },
      ...{ stickyRuns: 1000, pollInterval: '1s' },
    },
    payload: { maxBytes: 2 * 1024 * 1024 },
  }),
  OrchestrationModule.forRoot({ worker: false, connection: { type: 'postgres', url: process.env['DATABASE_URL'] } }),
  OrchestrationModule.forRootAsync({ name: 'reports', inject: [], useFactory: async () => ({ schema: 'reports' }) }),
  OrchestrationModule.forFeature([OrderWorkflow, PaymentWorkflow], 'reports'),
  TypeOrmModule.forRootAsync({ useFactory: () => embeddedPostgres({ dir: '.data' }) }),
];

describe('The examples of the contract', () => {
  it('are accepted by the module', () => {
    expect(modules().map(({ module }) => module.name)).toHaveLength(5);
    expect(OrdersController.name).toBe('OrdersController');
  });
});
