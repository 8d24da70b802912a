import { AsyncLocalStorage } from 'node:async_hooks';

import { Controller, Get, Headers, Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ClsModule, ClsService } from 'nestjs-cls';
import pg from 'pg';

import {
  AesGcmPayloadCodec,
  type CallerContext,
  OrchestrationModule,
  type OrchestrationModuleOptions,
  Orchestrator,
  RunContext,
  Step,
  Workflow,
} from '../../lib/index.js';
import { closeApps, startApp, type TestApp } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { rewindRun } from '../support/rewind.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';

interface Caller {
  user: string;
}

const storage = new AsyncLocalStorage<Caller | undefined>();
const carrier: CallerContext = {
  capture: () => storage.getStore(),
  run: (caller: Caller | undefined, next) => storage.run(caller, next),
};
const user = () => storage.getStore()?.user;
const as = <T>(name: string, code: () => T): T => storage.run({ user: name }, code);

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
});

afterEach(closeApps);

afterAll(() => database.drop());

type Providers = NonNullable<Parameters<typeof startApp>[0]['providers']>;

function start(providers: Providers, options: OrchestrationModuleOptions = {}): Promise<TestApp> {
  return startApp({
    database,
    providers,
    options: { context: carrier, ...options, worker: options.worker ?? { pollInterval: '20ms' } },
  });
}

async function storedContext(runId: string): Promise<string | null> {
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  try {
    const { rows } = await client.query<{ context: string | null }>(
      'select context from orchestration.run where id = $1',
      [runId],
    );
    return rows[0]!.context;
  } finally {
    await client.end();
  }
}

describe('the context of the caller (scenario 78)', () => {
  const seeing = workflow<string, unknown[]>('seeing', async ({ ctx }, input) => {
    const before = user();
    const first = await ctx.step('first', () => user());
    await ctx.sleep(1);
    const retried = await ctx.step(
      'retried',
      ({ attempt }) => {
        if (attempt === 1) throw new Error('once more');
        return user();
      },
      { retry: { initialInterval: 300 } },
    );
    return [input, before, first, retried, user()];
  });
  const everywhere = (name: string | undefined) => [name ?? 'nobody', name, name, name, name];

  it('is seen by the run and each attempt of its steps, however it was started, and by nobody else', async () => {
    const { orchestrator } = await start([seeing]);

    // At the same time, so that all go in the same batches.
    const names = ['ada', undefined, 'bob', 'cy', undefined, 'dee'];
    const started = names.map((name) => {
      const go = () => orchestrator.execute(seeing, name ?? 'nobody');
      return name ? as(name, go) : go();
    });
    const many = await as('eve', () => orchestrator.startMany(seeing, [{ input: 'eve' }, { input: 'eve', delay: 50 }]));

    expect(await Promise.all(started)).toEqual(names.map(everywhere));
    expect(await Promise.all(many.map((run) => run.result()))).toEqual([everywhere('eve'), everywhere('eve')]);
  });

  it('is seen in another process, after a crash, and in a replay', async () => {
    const barrier = new Barrier();
    let isHeld = true;
    const held = workflow<void, unknown[]>('held-in-context', async ({ ctx }) => {
      const before = await ctx.step('before', () => user());
      await ctx.step('held', async () => {
        if (isHeld) await barrier.pass();
      });
      return [before, await ctx.step('after', () => user()), user()];
    });
    const client = await start([held], { worker: false });
    const victim = await start([held]);
    const run = await as('ada', () => client.orchestrator.start(held, undefined));
    await barrier.reached();
    isHeld = false;
    await victim.crash();

    const next = await as('somebody else', () => start([held]));
    const output = await next.orchestrator.result(run.id);
    await rewindRun(database, run.id, 2);

    expect(output).toEqual(['ada', 'ada', 'ada']);
    expect(await next.orchestrator.result(run.id)).toEqual(output);
  });

  it('is a copy for each: what a step changes in it, no other step sees', async () => {
    const changing = workflow('changing', async ({ ctx }) => {
      storage.getStore()!.user = 'changed by the run';
      await ctx.step('changes', () => (storage.getStore()!.user = 'changed by a step'));
      return [user(), await ctx.step('looks', () => user())];
    });
    const { orchestrator } = await start([changing]);

    const caller = { user: 'ada' };
    const output = await storage.run(caller, () => orchestrator.execute(changing, undefined));

    expect(output).toEqual(['changed by the run', 'ada']);
    expect(caller).toEqual({ user: 'ada' });
  });

  it("is a child's only where it inherits it, at every depth", async () => {
    const child = workflow<number, unknown[]>('context-child', async ({ ctx, children }, depth): Promise<unknown[]> => {
      const own = [user(), await ctx.step('child', () => user())];
      if (depth === 0) return own;
      return [...own, ...(await children.call<unknown[]>('context-child', depth - 1, { inherit: ['context'] }))];
    });
    const parent = workflow('context-parent', async ({ children }) => {
      const started = await children.start(child, 0, { inherit: ['context'] });
      return {
        called: await children.call(child, 0),
        heir: await children.call(child, 1, { inherit: ['attributes', 'context'] }),
        started: await started.result(),
        mapped: await children.map(child, [0, 0], { inherit: ['context'] }),
      };
    });
    const { orchestrator } = await start([parent, child]);

    expect(await as('ada', () => orchestrator.execute(parent, undefined))).toEqual({
      called: [undefined, undefined],
      heir: ['ada', 'ada', 'ada', 'ada'],
      started: ['ada', 'ada'],
      mapped: [
        ['ada', 'ada'],
        ['ada', 'ada'],
      ],
    });
  });

  it('and the attributes are inherited each without the other', async () => {
    const heir = workflow('heir', ({ ctx }) => [user(), ctx.attributes]);
    const parent = workflow('leaving', async ({ children }) => ({
      attributes: await children.call(heir, undefined, { inherit: ['attributes'] }),
      context: await children.call(heir, undefined, { inherit: ['context'] }),
      neither: await children.call(heir, undefined, { inherit: [] }),
    }));
    const { orchestrator } = await start([parent, heir]);
    const leave = () => orchestrator.execute(parent, undefined, { attributes: { city: 'Oslo' } });

    expect(await as('ada', leave)).toEqual({
      attributes: [undefined, { city: 'Oslo' }],
      context: ['ada', {}],
      neither: [undefined, {}],
    });
  });

  it('is encrypted as payloads are, and blocks a run where it cannot be read', async () => {
    const key = { id: 'k', key: Buffer.alloc(32, 7) };
    const secretive = workflow('secretive-context', () => user());
    const client = await start([secretive], {
      payload: { codec: new AesGcmPayloadCodec({ keys: [key] }) },
      worker: false,
    });
    const run = await as('ada s3cret', () => client.orchestrator.start(secretive, undefined));

    const other = await start([secretive]);
    await until('it is blocked', async () => (await other.orchestrator.get(run.id)).status === 'blocked');
    await other.close();
    await start([secretive], { payload: { codec: new AesGcmPayloadCodec({ keys: [key] }) } });

    expect(await run.result()).toBe('ada s3cret');
    expect(await storedContext(run.id)).toMatch(/^!aes-256-gcm:k:/);
  });

  it('is not carried, stored or leaked without the option', async () => {
    const { orchestrator } = await start([seeing], { context: undefined as never });

    const run = await as('ada', () => orchestrator.start(seeing, 'nobody'));

    expect(await run.result()).toEqual(everywhere(undefined));
    expect(await storedContext(run.id)).toBeNull();
  });

  it('cannot be what cannot be stored; a carrier that is none is refused, as is one that does not call its code', async () => {
    const plain = workflow('plain-context', () => 'never');
    const capturing = await start([plain], { context: { ...carrier, capture: () => ({ request: () => 1 }) } });
    const late = await start([plain], {
      context: { ...carrier, run: (_, next) => void setTimeout(next, 1) },
      schema: 'late',
    });

    await expect(capturing.orchestrator.start(plain, undefined)).rejects.toMatchObject({
      code: 'PAYLOAD',
      what: 'the context of the caller',
      path: 'value.request',
    });
    await expect(late.orchestrator.execute(plain, undefined)).rejects.toMatchObject({
      cause: { code: 'VALIDATION', message: 'context.run: it must call next before it returns' },
    });
    await expect(start([], { context: { capture: String } as never })).rejects.toMatchObject({
      problems: ['context has no method run'],
    });
  });

  it('that cannot be restored for a step fails the attempt, also of one that has waited for what was before it', async () => {
    const entries: string[] = [];
    const failing: CallerContext = {
      ...carrier,
      run: (caller: Caller | undefined, next) => {
        entries.push('enters');
        // The code of the run is the first, each step fails once.
        if (entries.length === 2 || entries.length === 4) throw new Error('no context today');
        storage.run(caller, next);
      },
    };
    const Work = workflow('restored-late', async ({ ctx }) => {
      const once = (name: string) =>
        ctx.step(name, ({ attempt }) => attempt, { retry: { initialInterval: 0, jitter: 0 } });
      return [await once('first'), await once('second')];
    });
    const { orchestrator } = await start([Work], { context: failing, schema: 'failing' });

    await expect(orchestrator.execute(Work, undefined)).resolves.toEqual([2, 2]);
    expect(entries).toHaveLength(5);
  });
});

describe('nestjs-cls (scenario 78)', () => {
  @Injectable()
  class Audit {
    constructor(
      private readonly cls: ClsService,
      private readonly ctx: RunContext,
    ) {}

    @Step()
    async note(what: string): Promise<string> {
      return `${what} by ${this.cls.get<string>('user')} for ${this.ctx.tenant} (${this.cls.has('request')})`;
    }
  }

  @Workflow('audited')
  class Audited {
    constructor(
      private readonly audit: Audit,
      private readonly ctx: RunContext,
    ) {}

    async run(what: string): Promise<string[]> {
      const first = await this.audit.note(what);
      await this.ctx.sleep('400ms');
      return [first, await this.audit.note('the rest')];
    }
  }

  @Controller()
  class AuditController {
    constructor(
      private readonly orchestrator: Orchestrator,
      private readonly cls: ClsService,
    ) {}

    @Get()
    async work(@Headers('x-user') name: string): Promise<string> {
      this.cls.set('user', name);
      // Not to be kept with a run, so the carrier leaves it out.
      this.cls.set('request', { socket: () => 1 });
      return (await this.orchestrator.start(Audited, 'a request', { tenant: 'acme' })).id;
    }
  }

  it('has the values of the request in the steps, also after a recovery in another process', async () => {
    @Module({
      imports: [
        ClsModule.forRoot({ global: true, middleware: { mount: true } }),
        OrchestrationModule.forRootAsync({
          inject: [ClsService],
          useFactory: (cls: ClsService) => ({
            connection: database.connection,
            schema: 'cls',
            worker: { pollInterval: '20ms' },
            context: {
              capture: () => (cls.isActive() ? { user: cls.get<string>('user') } : undefined),
              run: (kept: object | undefined, next) => cls.runWith({ ...kept }, next),
            },
          }),
        }),
      ],
      controllers: [AuditController],
      providers: [Audited, Audit],
    })
    class AuditModule {}
    const boot = () => NestFactory.create(AuditModule, { logger: false, abortOnError: false });
    const app = await boot();
    await app.listen(0, '127.0.0.1');
    const url = await app.getUrl();
    const ids = await Promise.all(
      ['ada', 'bob'].map(async (name) => (await fetch(url, { headers: { 'x-user': name } })).text()),
    );
    const orchestrator = app.get(Orchestrator);
    for (const id of ids) await until('it sleeps', async () => (await orchestrator.get(id)).status === 'waiting');
    await app.close();

    const next = await boot();
    try {
      await next.init();

      expect(await Promise.all(ids.map((id) => next.get(Orchestrator).result(id)))).toEqual(
        ['ada', 'bob'].map((name) => [`a request by ${name} for acme (false)`, `the rest by ${name} for acme (false)`]),
      );
    } finally {
      await next.close();
    }
  });
});
