import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import {
  Body,
  Controller,
  Get,
  Inject,
  Injectable,
  Module,
  type ModuleMetadata,
  type OnModuleInit,
  Param,
  Post,
  type Provider,
  Scope,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  ClientProxyFactory,
  MessagePattern,
  type MicroserviceOptions,
  Payload,
  Transport,
} from '@nestjs/microservices';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { Test } from '@nestjs/testing';
import { getDataSourceToken, InjectRepository, TypeOrmModule } from '@nestjs/typeorm';
import pg from 'pg';
import { firstValueFrom, toArray } from 'rxjs';
import { Column, DataSource, DefaultNamingStrategy, Entity, PrimaryColumn, type Repository } from 'typeorm';

import {
  ChildOrchestrator,
  DefinitionError,
  EmbeddedDatabaseError,
  InjectOrchestrator,
  OrchestrationModule,
  type OrchestrationModuleOptions,
  Orchestrator,
  RunContext,
  type RunEvent,
  SchemaBehindError,
  Step,
  Workflow,
} from '../../lib/index.js';
import type { EngineHost } from '../../lib/nest/engine-host.js';
import { closeApps, startApp } from '../support/app.js';
import { Barrier } from '../support/barrier.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { until } from '../support/until.js';
import { NestProcess } from './nest-process.js';

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
});

afterEach(async () => {
  await closeApps();
  await Promise.all(opened.splice(0).map((app) => app.close()));
});

afterAll(() => database.drop());

/** What `boot` has opened in a test. */
const opened: { close(): Promise<void> }[] = [];

/** A Nest application context of these modules and providers. */
async function boot(metadata: Pick<ModuleMetadata, 'imports' | 'providers'>) {
  @Module({})
  class AppModule {}
  const root = { module: AppModule, ...metadata };
  const app = await NestFactory.createApplicationContext(root, { logger: false, abortOnError: false });
  opened.push(app);
  return app;
}

async function query<Row extends pg.QueryResultRow>(text: string, values: unknown[] = []): Promise<Row[]> {
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  try {
    return (await client.query<Row>(text, values)).rows;
  } finally {
    await client.end();
  }
}

@Workflow('double')
class DoubleWorkflow {
  constructor(private readonly ctx: RunContext) {}

  run(value: number): Promise<number> {
    return this.ctx.step('double', () => 2 * value);
  }
}

@Workflow('quadruple')
class QuadrupleWorkflow {
  constructor(private readonly children: ChildOrchestrator) {}

  async run(value: number): Promise<number> {
    return this.children.call(DoubleWorkflow, await this.children.call(DoubleWorkflow, value));
  }
}

describe('A workflow class without a name', () => {
  it('has that of the class, in kebab-case and without Workflow', async () => {
    @Workflow()
    class OrderShippingWorkflow extends DoubleWorkflow {}
    @Workflow({ version: 2 })
    class HTTPCall2Workflow extends DoubleWorkflow {}
    @Workflow()
    class WorkflowCleanup extends DoubleWorkflow {}
    const classes = [OrderShippingWorkflow, HTTPCall2Workflow, WorkflowCleanup];
    const app = await boot({
      imports: [OrchestrationModule.forRoot({ connection: database.connection, worker: false })],
      providers: classes,
    });
    const orchestrator = app.get(Orchestrator);

    const runs = await Promise.all(classes.map((type) => orchestrator.start(type, 1)));

    const names = await Promise.all(runs.map(async ({ id }) => (await orchestrator.get(id)).workflow));
    expect(names).toEqual(['order-shipping', 'http-call2', 'workflow-cleanup']);
    await Promise.all(runs.map((run) => run.cancel()));
  });
});

describe('Which database', () => {
  @Entity('invoice')
  class Invoice {
    @PrimaryColumn('int')
    id!: number;

    @Column('text')
    customerName!: string;
  }

  it("is the app's default DataSource when nothing is said", async () => {
    const app = await boot({
      imports: [TypeOrmModule.forRoot(database.connection), OrchestrationModule.forRoot()],
      providers: [DoubleWorkflow],
    });

    const output = await app.get(Orchestrator).execute(DoubleWorkflow, 21);

    expect(output).toBe(42);
    const [{ count }] = (await query<{ count: number }>(
      `select count(*)::int as count from orchestration.run where workflow = 'double'`,
    )) as [{ count: number }];
    expect(count).toBe(1);
  });

  it.each([
    ['name', 'shop', 'by_name'],
    ['token', getDataSourceToken('shop'), 'by_token'],
  ])('is the DataSource of the app that a %s gives', async (_how, dataSource, schema) => {
    const app = await boot({
      imports: [
        TypeOrmModule.forRoot({ ...database.connection, name: 'shop' }),
        OrchestrationModule.forRoot({ dataSource, schema }),
      ],
      providers: [DoubleWorkflow],
    });

    expect(await app.get(Orchestrator).execute(DoubleWorkflow, 1)).toBe(2);
    expect(await query(`select workflow from ${schema}.run`)).toEqual([{ workflow: 'double' }]);
  });

  it('is that of a DataSource instance, which need not be connected', async () => {
    const dataSource = new DataSource(database.connection);
    const app = await boot({
      imports: [OrchestrationModule.forRoot({ dataSource, schema: 'by_instance' })],
      providers: [DoubleWorkflow],
    });

    expect(await app.get(Orchestrator).execute(DoubleWorkflow, 2)).toBe(4);
    expect(dataSource.isInitialized).toBe(false);
  });

  it('is an own connection beside a DataSource of the app on another database', async () => {
    const shop = await createTestDatabase();
    const app = await boot({
      imports: [
        TypeOrmModule.forRoot(shop.connection),
        OrchestrationModule.forRoot({ connection: { type: 'postgres', url: database.url }, schema: 'own' }),
      ],
      providers: [DoubleWorkflow],
    });

    expect(await app.get(Orchestrator).execute(DoubleWorkflow, 3)).toBe(6);
    const schemas: unknown = await app.get(DataSource).query(`select from pg_namespace where nspname = 'own'`);
    expect(schemas).toHaveLength(0);
    await app.close();
    await shop.drop();
  });

  it("leaves the naming strategy, table prefix and isolation level of the app's DataSource to the app's entities", async () => {
    class ShoutingStrategy extends DefaultNamingStrategy {
      override columnName(property: string, custom: string | undefined): string {
        return (custom ?? property).toUpperCase();
      }
    }
    const app = await boot({
      imports: [
        TypeOrmModule.forRoot({
          ...database.connection,
          entities: [Invoice],
          synchronize: true,
          entityPrefix: 'shop_',
          namingStrategy: new ShoutingStrategy(),
          isolationLevel: 'SERIALIZABLE',
        }),
        OrchestrationModule.forRoot({ schema: 'named_plainly' }),
      ],
      providers: [DoubleWorkflow],
    });
    const orchestrator = app.get(Orchestrator);

    const run = await orchestrator.start(DoubleWorkflow, 4, { key: 'four' });
    await run.result();

    expect(await orchestrator.findByKey(DoubleWorkflow, 'four')).toMatchObject({
      id: run.id,
      status: 'completed',
      output: 8,
    });
    expect(await query('select "CUSTOMERNAME" from shop_invoice')).toEqual([]);
  });

  it('is the primary where the DataSource has replicas', async () => {
    const app = await boot({
      imports: [
        OrchestrationModule.forRoot({
          dataSource: new DataSource({
            type: 'postgres',
            replication: { master: { url: database.url }, slaves: [{ url: 'postgres://nobody@127.0.0.1:1/nowhere' }] },
          }),
          schema: 'primary_only',
        }),
      ],
      providers: [DoubleWorkflow],
    });

    const run = await app.get(Orchestrator).start(DoubleWorkflow, 5);

    expect(await run.result()).toBe(10);
    expect(await run.status()).toBe('completed');
  });

  it('cannot be a DataSource that the app does not have, nor two things at once', async () => {
    const withUnknown = boot({ imports: [OrchestrationModule.forRoot({ dataSource: 'archive' })] });
    await expect(withUnknown).rejects.toMatchObject({
      code: 'DEFINITION',
      problems: [
        expect.stringContaining("forRoot: there is no TypeORM DataSource 'archive' in the app. Give the name"),
      ],
    });

    const withBoth = boot({
      imports: [OrchestrationModule.forRoot({ dataSource: 'default', connection: database.connection })],
    });
    await expect(withBoth).rejects.toMatchObject({ problems: ['forRoot: give dataSource or connection, not both'] });
  });

  it("is not that of the app's default DataSource where that is no PostgreSQL, which cannot be named either", async () => {
    // As one of another copy of typeorm, whose class is another: told by its shape.
    const mysql = { provide: DataSource, useValue: { options: { type: 'mysql' }, driver: {} } };
    process.env['NODE_ENV'] = 'production';
    try {
      const byDefault = boot({ imports: [OrchestrationModule.forRoot()], providers: [mysql] });
      await expect(byDefault).rejects.toThrow(EmbeddedDatabaseError);
    } finally {
      process.env['NODE_ENV'] = 'test';
    }

    const named = boot({ imports: [OrchestrationModule.forRoot({ dataSource: 'default' })], providers: [mysql] });
    await expect(named).rejects.toMatchObject({
      problems: ["forRoot: the DataSource is of type 'mysql', and only 'postgres' is supported"],
    });
  });

  it('is not the embedded one in production; the error names what to give', async () => {
    process.env['NODE_ENV'] = 'production';
    try {
      const error: unknown = await boot({ imports: [OrchestrationModule.forRoot()] }).catch(
        (thrown: unknown) => thrown,
      );

      expect(error).toBeInstanceOf(EmbeddedDatabaseError);
      expect((error as Error).message).toMatch(/`dataSource`.*`connection`/);
    } finally {
      process.env['NODE_ENV'] = 'test';
    }
  });

  it('is the embedded one in .orchestration/ when the app has none', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'orchestration-nest-'));
    // The embedded server does not run as root and must get in.
    await chmod(folder, 0o755);
    const app = NestProcess.start({ task: 'double' }, folder);

    const message = await app.message();

    expect(message).toEqual({ output: 42, folder: ['.orchestration'] });
    await app.end();
    await rm(folder, { recursive: true });
  });

  it("has a pool of its own: the app's pool of one, fully used, does not starve the engine", async () => {
    const app = await boot({
      imports: [
        TypeOrmModule.forRoot({ ...database.connection, poolSize: 1 }),
        OrchestrationModule.forRoot({ schema: 'own_pool' }),
      ],
      providers: [DoubleWorkflow],
    });

    await app.get(DataSource).transaction(async (manager) => {
      await manager.query('select 1');
      expect(await app.get(Orchestrator).execute(DoubleWorkflow, 6)).toBe(12);
    });
  });

  it('has a pool that is small however much there is to do, with the options of the DataSource', async () => {
    const extra = { application_name: 'of the shop' };
    const dataSource = new DataSource({ type: 'postgres', url: database.url, poolSize: 50, extra });
    const app = await boot({
      imports: [OrchestrationModule.forRoot({ dataSource, schema: 'small_pool' })],
      providers: [DoubleWorkflow],
    });
    const orchestrator = app.get(Orchestrator);
    const connections = async () =>
      (await query(`select from pg_stat_activity where application_name = 'of the shop'`)).length;

    await orchestrator.execute(DoubleWorkflow, 7);
    // Each of them needs a connection for itself.
    const pages = await Promise.all(Array.from({ length: 200 }, () => orchestrator.list()));

    expect(pages.every(({ items }) => items.length === 1)).toBe(true);
    expect(await connections()).toBe(8);
  });
});

const inSchema = (schema: string): OrchestrationModuleOptions => ({ connection: database.connection, schema });

describe('forRootAsync', () => {
  @Injectable()
  class Settings {
    schema = 'async_factory';
  }
  @Module({ providers: [Settings], exports: [Settings] })
  class SettingsModule {}

  @Injectable()
  class OptionsFactory {
    create(): OrchestrationModuleOptions {
      return inSchema('async_class');
    }
  }
  @Module({ providers: [OptionsFactory], exports: [OptionsFactory] })
  class OptionsModule {}

  it.each([
    [
      'a factory with what it injects from what it imports',
      () =>
        OrchestrationModule.forRootAsync({
          imports: [SettingsModule],
          inject: [Settings],
          useFactory: async (settings: Settings) => inSchema(settings.schema),
        }),
      'async_factory',
    ],
    ['a class', () => OrchestrationModule.forRootAsync({ useClass: OptionsFactory }), 'async_class'],
    [
      'another provider',
      () => OrchestrationModule.forRootAsync({ imports: [OptionsModule], useExisting: OptionsFactory }),
      'async_class',
    ],
  ])('takes the options from %s', async (_from, module, schema) => {
    const app = await boot({ imports: [module()], providers: [DoubleWorkflow] });

    const run = await app.get(Orchestrator).start(DoubleWorkflow, 7);

    expect(await run.result()).toBe(14);
    expect(await query(`select id from ${schema}.run where id = $1`, [run.id])).toHaveLength(1);
  });

  it('checks the options as forRoot does, and an option that is undefined is not given', async () => {
    const wrong = boot({
      imports: [OrchestrationModule.forRootAsync({ useFactory: () => ({ ...inSchema('x'), lease: '1s' }) })],
    });
    await expect(wrong).rejects.toMatchObject({
      problems: [expect.stringContaining("forRoot: unknown option 'lease'")],
    });

    const app = await boot({
      imports: [
        OrchestrationModule.forRootAsync({
          useFactory: () => ({
            ...inSchema('async_undefined'),
            dataSource: undefined,
            migrate: undefined,
            worker: { lease: undefined, concurrency: undefined },
          }),
        }),
      ],
      providers: [DoubleWorkflow],
    });
    expect(await app.get(Orchestrator).execute(DoubleWorkflow, 8)).toBe(16);
  });
});

describe('Options that are not given', () => {
  @Workflow({ name: 'mail', queue: 'emails' })
  class MailWorkflow {
    run(to: string): string {
      return `mailed ${to}`;
    }
  }

  it('have their defaults: a worker for 100 runs, of the default queue and all that workflows name', async () => {
    const app = await boot({
      imports: [OrchestrationModule.forRoot(inSchema('defaults'))],
      providers: [DoubleWorkflow, MailWorkflow],
    });
    const orchestrator = app.get(Orchestrator);
    const { worker } = await app.get<EngineHost>('EngineHost:').engine();

    expect(worker!.settings).toEqual({
      ...{ concurrency: 100, queues: ['default', 'emails'], leaseMs: 30_000, shutdownTimeoutMs: 20_000 },
      ...{ maxRecoveries: 10, stickyRuns: 1_000, pollIntervalMs: 1_000, retention: expect.anything() as unknown },
    });
    expect(await orchestrator.workers.list()).toMatchObject([{ queues: ['default', 'emails'] }]);
    expect(await orchestrator.execute(DoubleWorkflow, 1)).toBe(2);
    expect(await orchestrator.execute(MailWorkflow, 'ann')).toBe('mailed ann');
  });
});

describe('payload.maxBytes', () => {
  it('is the largest payload that is taken', async () => {
    const options = { schema: 'small_payloads', payload: { maxBytes: 100 }, worker: false } as const;
    const { orchestrator } = await startApp({ database, providers: [DoubleWorkflow], options });

    const run = await orchestrator.start('double', 'x'.repeat(98));
    expect((await orchestrator.get(run.id)).input).toBe('x'.repeat(98));

    await expect(orchestrator.start('double', { text: 'x'.repeat(99) })).rejects.toMatchObject({
      ...{ code: 'PAYLOAD', statusCode: 422, path: 'value.text', bytes: 110 },
    });
  });

  it('is 2 MiB where nothing is said', async () => {
    const options = { schema: 'payloads', worker: false } as const;
    const { orchestrator } = await startApp({ database, providers: [DoubleWorkflow], options });
    // A text has two quotes.
    const largest = 'x'.repeat(2 * 1024 * 1024 - 2);

    const run = await orchestrator.start('double', largest);

    expect((await orchestrator.get(run.id)).input).toHaveLength(largest.length);
    await expect(orchestrator.start('double', `${largest}x`)).rejects.toMatchObject({ code: 'PAYLOAD' });
  });
});

describe('Several modules', () => {
  @Injectable()
  class Counter {
    constructor(
      readonly orchestrator: Orchestrator,
      @InjectOrchestrator('reports') readonly reports: Orchestrator,
    ) {}
  }

  @Workflow({ name: 'report', orchestration: 'reports' })
  class ReportWorkflow {
    constructor(private readonly children: ChildOrchestrator) {}

    run(value: number): Promise<number> {
      return this.children.call(AddedWorkflow, value);
    }
  }

  @Workflow('added')
  class AddedWorkflow {
    constructor(private readonly ctx: RunContext) {}

    run(value: number): Promise<number> {
      return this.ctx.step('add', () => value + 1);
    }
  }

  it('of different name in one process are apart (scenario 75)', async () => {
    const app = await boot({
      imports: [
        OrchestrationModule.forRoot({ connection: database.connection, schema: 'plain' }),
        OrchestrationModule.forRoot({ name: 'reports', connection: database.connection, schema: 'reports' }),
        OrchestrationModule.forFeature([AddedWorkflow], 'reports'),
      ],
      providers: [DoubleWorkflow, ReportWorkflow, Counter],
    });
    const { orchestrator, reports } = app.get(Counter);

    const double = await orchestrator.start(DoubleWorkflow, 1);
    const report = await reports.start(ReportWorkflow, 1);

    expect([await double.result(), await report.result()]).toEqual([2, 2]);
    await expect(orchestrator.start(ReportWorkflow, 1)).rejects.toMatchObject({ code: 'WORKFLOW_NOT_REGISTERED' });
    await expect(orchestrator.start('added', 1)).rejects.toMatchObject({ code: 'WORKFLOW_NOT_REGISTERED' });
    await expect(reports.start(DoubleWorkflow, 1)).rejects.toMatchObject({ code: 'WORKFLOW_NOT_REGISTERED' });
    await expect(orchestrator.get(report.id)).rejects.toMatchObject({ code: 'RUN_NOT_FOUND' });
    expect((await reports.list()).items.map((run) => run.workflow).sort()).toEqual(['added', 'report']);
    expect((await orchestrator.list()).items.map((run) => run.workflow)).toEqual(['double']);
  });

  it('may give the named one asynchronously, and use it without one that has no name', async () => {
    const app = await boot({
      imports: [
        OrchestrationModule.forRootAsync({
          name: 'reports',
          useFactory: () => ({ connection: database.connection, schema: 'reports_async' }),
        }),
        OrchestrationModule.forFeature([AddedWorkflow, ReportWorkflow], 'reports'),
      ],
    });

    expect(await app.get<Orchestrator>('Orchestrator:reports').execute(ReportWorkflow, 2)).toBe(3);
  });

  it('forFeature provides workflow classes from any module', async () => {
    @Module({ imports: [OrchestrationModule.forFeature([QuadrupleWorkflow])] })
    class PricesModule {}
    @Module({ imports: [OrchestrationModule.forFeature([DoubleWorkflow])] })
    class NumbersModule {}

    const app = await boot({
      imports: [PricesModule, NumbersModule, OrchestrationModule.forRoot({ connection: database.connection })],
    });

    expect(await app.get(Orchestrator).execute(QuadrupleWorkflow, 3)).toBe(12);
  });
});

describe('A provider of the app', () => {
  @Entity('note')
  class Note {
    @PrimaryColumn('text')
    text!: string;
  }

  @Injectable()
  class Mailer {
    send(to: string): string {
      return `mailed ${to}`;
    }
  }

  @Workflow('remind')
  class RemindWorkflow {
    constructor(
      private readonly mailer: Mailer,
      @Inject('SENDER') private readonly sender: string,
      @InjectRepository(Note) private readonly notes: Repository<Note>,
    ) {}

    async run(to: string): Promise<string> {
      return this.remind(to);
    }

    @Step()
    private async remind(to: string): Promise<string> {
      await this.notes.insert({ text: `${this.sender} → ${to}` });
      return this.mailer.send(to);
    }
  }

  const metadata = () => ({
    imports: [
      TypeOrmModule.forRoot({ ...database.connection, entities: [Note], synchronize: true }),
      TypeOrmModule.forFeature([Note]),
      OrchestrationModule.forRoot(),
    ],
    providers: [RemindWorkflow, Mailer, { provide: 'SENDER', useValue: 'shop' }] as Provider[],
  });

  it('is injected into a workflow as anywhere, and can be overridden in a test (scenario 73)', async () => {
    const module = await Test.createTestingModule(metadata())
      .overrideProvider(Mailer)
      .useValue({ send: (to: string) => `pretended to mail ${to}` })
      .compile();
    const app = await module.init();
    opened.push(app);

    expect(await app.get(Orchestrator).execute(RemindWorkflow, 'ann')).toBe('pretended to mail ann');
    expect(await query('select text from note')).toEqual([{ text: 'shop → ann' }]);
  });

  it('that is a workflow can be overridden too, by a value or another class', async () => {
    @Injectable()
    class Tripling {
      run(value: number): number {
        return 3 * value;
      }
    }
    const module = await Test.createTestingModule({
      imports: [OrchestrationModule.forRoot({ connection: database.connection })],
      providers: [DoubleWorkflow, QuadrupleWorkflow, RemindWorkflow, Mailer, { provide: 'SENDER', useValue: '' }],
    })
      .overrideProvider(DoubleWorkflow)
      .useClass(Tripling)
      .overrideProvider(RemindWorkflow)
      .useValue({ run: (to: string) => `did not remind ${to}` })
      .compile();
    const app = await module.init();
    opened.push(app);

    expect(await app.get(Orchestrator).execute(QuadrupleWorkflow, 1)).toBe(9);
    expect(await app.get(Orchestrator).execute(RemindWorkflow, 'bob')).toBe('did not remind bob');
  });

  it('that is a workflow may come from a factory', async () => {
    const app = await boot({
      imports: [OrchestrationModule.forRoot({ connection: database.connection })],
      providers: [
        { provide: DoubleWorkflow, useFactory: (ctx: RunContext) => new DoubleWorkflow(ctx), inject: [RunContext] },
      ],
    });

    expect(await app.get(Orchestrator).execute(DoubleWorkflow, 9)).toBe(18);
  });

  it('with a repository, config and an overridden provider recovers in a fresh process (scenario 73)', async () => {
    const first = NestProcess.start({ task: 'order', url: database.url, mode: 'hang' });
    const { runId } = (await first.message()) as { runId: string };
    await first.kill();

    const second = NestProcess.start({ task: 'order', url: database.url, mode: 'finish', runId });

    expect(await second.message()).toEqual({ output: 'paid 40 EUR to the fake provider of the second process' });
    await second.end();
    expect(await query('select reference, attempts from shop_order')).toEqual([{ reference: 'A-1', attempts: 2 }]);
  });
});

describe('The kind of application (scenario 75)', () => {
  @Controller('doubles')
  class DoubleController {
    constructor(private readonly orchestrator: Orchestrator) {}

    @Post()
    async create(@Body() body: { value: number }): Promise<{ id: string }> {
      return { id: (await this.orchestrator.start(DoubleWorkflow, body.value)).id };
    }

    @Get(':id')
    async result(@Param('id') id: string): Promise<{ output: number }> {
      return { output: await this.orchestrator.result<number>(id) };
    }

    @MessagePattern('double')
    double(@Payload() value: number): Promise<number> {
      return this.orchestrator.execute(DoubleWorkflow, value);
    }
  }

  const appModule = () => {
    @Module({
      imports: [OrchestrationModule.forRoot({ connection: database.connection })],
      controllers: [DoubleController],
      providers: [DoubleWorkflow],
    })
    class AppModule {}
    return AppModule;
  };

  it.each([
    ['Express', () => NestFactory.create(appModule(), { logger: false, abortOnError: false })],
    ['Fastify', () => NestFactory.create(appModule(), new FastifyAdapter(), { logger: false, abortOnError: false })],
  ])('may be %s', async (_name, create) => {
    const app = await create();
    opened.push(app);
    await app.listen(0, '127.0.0.1');
    const url = `${await app.getUrl()}/doubles`;

    const created = await fetch(url, {
      method: 'POST',
      body: JSON.stringify({ value: 5 }),
      headers: { 'content-type': 'application/json' },
    });
    const { id } = (await created.json()) as { id: string };
    const result = await fetch(`${url}/${id}`);

    expect(await result.json()).toEqual({ output: 10 });
  });

  it('may be a microservice', async () => {
    const port = await freePort();
    const app = await NestFactory.createMicroservice<MicroserviceOptions>(appModule(), {
      transport: Transport.TCP,
      options: { port },
      logger: false,
    });
    opened.push(app);
    await app.listen();
    const client = ClientProxyFactory.create({ transport: Transport.TCP, options: { port } });

    expect(await firstValueFrom(client.send<number>('double', 6))).toBe(12);
    await client.close();
  });

  it('may be a standalone context', async () => {
    const { orchestrator } = await startApp({ database, providers: [DoubleWorkflow] });

    expect(await orchestrator.execute(DoubleWorkflow, 7)).toBe(14);
  });
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
  const { port } = server.address() as { port: number };
  await new Promise((closed) => server.close(closed));
  return port;
}

describe('Wrong definitions', () => {
  it('are all reported at boot, at once (scenario 76)', async () => {
    @Workflow('invoice')
    class FirstInvoiceWorkflow {
      run(): void {}
    }
    @Workflow('invoice')
    class SecondInvoiceWorkflow {
      run(): void {}
    }
    @Workflow('nightly')
    class TwiceNamedSteps {
      run(): void {}
      @Step({ name: 'charge' })
      first(): void {}
      @Step()
      charge(): void {}
    }
    @Workflow('per-request')
    @Injectable({ scope: Scope.REQUEST })
    class RequestScopedWorkflow {
      run(): void {}
    }
    @Injectable({ scope: Scope.REQUEST })
    class CurrentUser {}
    @Workflow('per-request-too')
    class WithRequestScopedWorkflow {
      constructor(readonly user: CurrentUser) {}
      run(): void {}
    }
    @Workflow('transient')
    @Injectable({ scope: Scope.TRANSIENT })
    class TransientWorkflow {
      run(): void {}
    }
    @Workflow({ name: '', version: 0, queue: '', timeout: '3 days' as never, color: 'red' } as never)
    class WrongOptionsWorkflow {
      run(): void {}
    }
    @Workflow('compensating')
    class CompensatingWorkflow {
      run(): void {}
      @Step({ compensate: 'refnd' })
      pay(): void {}
      refund(): void {}
    }
    @Workflow('empty')
    class EmptyWorkflow {}
    @Workflow({ name: 'elsewhere', orchestration: 'archive' })
    class ElsewhereWorkflow {
      run(): void {}
    }
    @Injectable()
    class Payments {
      @Step({
        timeout: 'soon' as never,
        retry: { maxAttempts: 0, backoffCoefficient: 0.5, jitter: 2, tries: 3 } as never,
      })
      charge(): void {}
      @Step({
        timeout: 0,
        retryIf: 'never' as never,
        nonRetryable: [7 as never],
        retry: { initialInterval: '1 minute' as never },
      })
      refund(): void {}
    }
    @Injectable()
    class NoWorkflow {}

    const error = await boot({
      imports: [
        OrchestrationModule.forRoot({
          connection: { type: 'mysql', database: 'shop' } as never,
          schema: 'x'.repeat(64),
          retries: 3,
          payload: { maxBytes: 0, compress: true },
          worker: { concurrency: 0, lease: '10ms', queues: [], pollInterval: 'often', threads: 4 },
        } as never),
        OrchestrationModule.forFeature([NoWorkflow]),
        OrchestrationModule.forFeature([ElsewhereWorkflow], 'attic'),
      ],
      providers: [
        FirstInvoiceWorkflow,
        SecondInvoiceWorkflow,
        TwiceNamedSteps,
        RequestScopedWorkflow,
        CurrentUser,
        WithRequestScopedWorkflow,
        TransientWorkflow,
        WrongOptionsWorkflow,
        CompensatingWorkflow,
        EmptyWorkflow,
        Payments,
      ],
    }).catch((thrown: unknown) => thrown);

    expect(error).toBeInstanceOf(DefinitionError);
    expect((error as DefinitionError).problems.toSorted()).toEqual([
      "CompensatingWorkflow.pay: there is no method 'refnd' to compensate with; did you mean 'refund'?",
      "ElsewhereWorkflow: there is no OrchestrationModule with the name 'archive'",
      "ElsewhereWorkflow: there is no OrchestrationModule with the name 'attic'",
      'EmptyWorkflow: it has neither a run method nor a @Step()',
      'FirstInvoiceWorkflow and SecondInvoiceWorkflow are both invoice@1: give one another name or version',
      'Payments.charge: retry.backoffCoefficient must be at least 1, not 0.5',
      'Payments.charge: retry.jitter must be between 0 and 1, not 2',
      'Payments.charge: retry.maxAttempts must be a whole number from 1, not 0',
      "Payments.charge: timeout 'soon' is no duration above zero",
      "Payments.charge: unknown retry option 'tries'",
      'Payments.refund: nonRetryable takes error classes and names, not 7',
      "Payments.refund: retry.initialInterval '1 minute' is no duration",
      'Payments.refund: retryIf must be a function',
      "Payments.refund: timeout '0' is no duration above zero",
      'RequestScopedWorkflow: a workflow class (or what it injects) must not be request-scoped: a run outlives every request',
      'TransientWorkflow: a workflow class must not be transient: the engine needs the one instance of it',
      "TwiceNamedSteps: the step name 'charge' is used twice",
      'WithRequestScopedWorkflow: a workflow class (or what it injects) must not be request-scoped: a run outlives every request',
      'WrongOptionsWorkflow: name must be a text that is not empty',
      'WrongOptionsWorkflow: queue must be a text that is not empty',
      "WrongOptionsWorkflow: timeout '3 days' is no duration above zero",
      "WrongOptionsWorkflow: unknown option 'color' (known: name, version, queue, timeout, cancelTimeout, retention, schedules, orchestration)",
      'WrongOptionsWorkflow: version must be a whole number from 1, not 0',
      'forFeature: NoWorkflow has no @Workflow(); provide what is no workflow in the module itself',
      "forRoot: connection.type must be 'postgres', not 'mysql'",
      `forRoot: schema must be 1 to 63 bytes of letters, digits, '_', '$', '-' and spaces, and not begin with 'pg_', not '${'x'.repeat(64)}'`,
      expect.stringMatching(/^forRoot: unknown option 'retries' \(known: dataSource, /),
      'payload.maxBytes must be a whole number from 1, not 0',
      "payload: unknown option 'compress' (known: maxBytes, codec)",
      'worker.concurrency must be a whole number from 1, not 0',
      "worker.lease must be a duration of at least 1000 ms, not '10ms'",
      "worker.pollInterval must be a duration of at least 10 ms, not 'often'",
      'worker.queues must be a list of queue names',
      "worker: unknown option 'threads' (known: concurrency, lease, shutdownTimeout, maxRecoveries, stickyRuns, pollInterval, queues)",
    ]);
  });

  it('are sections of the options that are none, and a DataSource that there is not, together with all else', async () => {
    const options = {
      dataSource: Symbol('archive'),
      migrate: 'false',
      worker: true,
      context: null,
      queues: ['emails'],
      tenants: 'all',
      retention: '30d',
      payload: null,
    } as never;

    await expect(boot({ imports: [OrchestrationModule.forRoot(options)] })).rejects.toMatchObject({
      problems: [
        'forRoot: worker must be an object or false, not true',
        'forRoot: context must be an object, not null',
        'forRoot: queues must be an object, not ["emails"]',
        'forRoot: tenants must be an object, not "all"',
        'forRoot: retention must be an object, not "30d"',
        'forRoot: payload must be an object, not null',
        'forRoot: migrate must be true or false, not "false"',
        expect.stringContaining("there is no TypeORM DataSource 'Symbol(archive)' in the app"),
      ],
    });
  });

  it('are nulls, and what else is nothing, in the place of options', async () => {
    @Workflow({ name: 'nothing', schedules: [null as never] })
    class NothingWorkflow {
      run(): void {}

      @Step({ retry: null as never })
      one(): void {}

      @Step({ retry: [] as never })
      other(): void {}
    }
    const options = {
      ...{ connection: database.connection, payload: { codec: null, maxBytes: null }, worker: { lease: null } },
      ...{ queues: { '': {}, emails: null }, tenants: { startLimit: null }, retention: { failed: null } },
    } as never;

    const booting = boot({ imports: [OrchestrationModule.forRoot(options)], providers: [NothingWorkflow] });

    await expect(booting).rejects.toMatchObject({
      problems: [
        'payload.maxBytes must be a whole number from 1, not null',
        'payload.codec must be an object, not null',
        'queues: the name of a queue must be a text that is not empty',
        'queues.emails: limits must be an object, not null',
        'tenants.startLimit must be { limit, per }, not null',
        'retention.failed must be a duration above zero, not null',
        "worker.lease must be a duration of at least 1000 ms, not 'null'",
        'NothingWorkflow.one: retry must be an object, not null',
        'NothingWorkflow.other: retry must be an object, not []',
        'NothingWorkflow: schedules[0]: it must be an object, not null',
      ],
    });
  });

  it('of a step on a static method is reported as its class is loaded', () => {
    const load = () => {
      class Rates {
        readonly currency = 'EUR';

        @Step()
        static latest(): void {}
      }
      return Rates;
    };

    expect(load).toThrow(DefinitionError);
    expect(load).toThrow('@Step() stands on the static method Rates.latest');
  });

  it.each([`it's`, 'with "quotes"', 'dotted.name', 'pg_jobs', ''])('is a schema by the name of %j', async (schema) => {
    const app = boot({ imports: [OrchestrationModule.forRoot({ connection: database.connection, schema })] });

    await expect(app).rejects.toMatchObject({ problems: [expect.stringContaining(`not '${schema}'`)] });
  });

  it('are two modules without different names', async () => {
    const first = OrchestrationModule.forRoot({ connection: database.connection });
    const second = OrchestrationModule.forRoot({ connection: database.connection, schema: 'other' });

    await expect(boot({ imports: [first, second] })).rejects.toMatchObject({
      problems: [expect.stringContaining('two OrchestrationModules are without a name')],
    });
  });

  it('leave no connection open', async () => {
    const connection = { ...database.connection, applicationName: 'refused' };
    @Workflow({ name: 'late', timeout: 'never' as never })
    class LateWorkflow {
      run(): void {}
    }

    const wrong = boot({ imports: [OrchestrationModule.forRoot({ connection })], providers: [LateWorkflow] });
    const behind = boot({ imports: [OrchestrationModule.forRoot({ connection, migrate: false, schema: 'nowhere' })] });

    await expect(wrong).rejects.toThrow(DefinitionError);
    await expect(behind).rejects.toThrow(SchemaBehindError);
    await until('the connections are closed', async () => {
      return (await query(`select from pg_stat_activity where application_name = 'refused'`)).length === 0;
    });
  });
});

describe('Migrations', () => {
  it('run once when four processes boot at the same time, and no process fails', async () => {
    const fresh = await createTestDatabase();
    const apps = [1, 2, 3, 4].map((value) => NestProcess.start({ task: 'race', url: fresh.url, value }));
    await Promise.all(apps.map((app) => app.message()));
    for (const app of apps) app.go();

    const reports = await Promise.all(apps.map((app) => app.message()));

    expect(reports).toEqual([{ output: 2 }, { output: 4 }, { output: 6 }, { output: 8 }]);
    await Promise.all(apps.map((app) => app.end()));
    const client = new pg.Client({ connectionString: fresh.url });
    await client.connect();
    const { rows } = await client.query(
      'select name, count(*)::int as times from orchestration.migrations group by name',
    );
    expect(rows.every(({ times }) => times === 1)).toBe(true);
    await client.end();
    await fresh.drop();
  });

  it('do not run with migrate: false, nor by themselves in production: SchemaBehindError names what is missing', async () => {
    const behind = { code: 'SCHEMA_BEHIND', schema: 'behind', pending: ['CreateTables1763600000000'] };

    await expect(
      boot({ imports: [OrchestrationModule.forRoot({ ...inSchema('behind'), migrate: false })] }),
    ).rejects.toMatchObject(behind);
    process.env['NODE_ENV'] = 'production';
    try {
      await expect(boot({ imports: [OrchestrationModule.forRoot(inSchema('behind'))] })).rejects.toMatchObject(behind);
      expect(await query(`select from pg_namespace where nspname = 'behind'`)).toEqual([]);
      await (await boot({ imports: [OrchestrationModule.forRoot({ ...inSchema('behind'), migrate: true })] })).close();
    } finally {
      process.env['NODE_ENV'] = 'test';
    }
    const app = await boot({
      imports: [OrchestrationModule.forRoot({ ...inSchema('behind'), migrate: false })],
      providers: [DoubleWorkflow],
    });
    expect(await app.get(Orchestrator).execute(DoubleWorkflow, 1)).toBe(2);
  });

  it.each(['Upper Case', 'hyphen-dollar$1', 'x'.repeat(63), 'naïve_ß_名', 'select'])(
    'make a schema of any name: %s',
    async (schema) => {
      const setup = { database, providers: [DoubleWorkflow, QuadrupleWorkflow], options: { schema } };
      const { orchestrator } = await startApp(setup);
      const client = await startApp({ ...setup, options: { schema, worker: false } });

      const run = await client.orchestrator.start(QuadrupleWorkflow, 2, { key: 'k' });

      expect(await run.result()).toBe(8);
      expect(await orchestrator.findByKey(QuadrupleWorkflow, 'k')).toMatchObject({ id: run.id, output: 8 });
      expect(await orchestrator.history(run.id)).toHaveLength(2);
      expect((await orchestrator.list()).items).toHaveLength(3);
    },
  );
});

describe('Apps on one database', () => {
  it('share a schema: one starts, the other executes, both see the result', async () => {
    const options = { schema: 'shared' };
    const executing = await startApp({ database, providers: [DoubleWorkflow], options });
    const waiting = await startApp({ database, options });

    const run = await waiting.orchestrator.start<number>('double', 4);

    expect(await run.result()).toBe(8);
    expect(await executing.orchestrator.result(run.id)).toBe(8);
  });

  it('with schemas of their own do not see each other, and one key serves both', async () => {
    const one = await startApp({ database, providers: [DoubleWorkflow], options: { schema: 'one' } });
    const other = await startApp({ database, providers: [DoubleWorkflow], options: { schema: 'other' } });

    const first = await one.orchestrator.start(DoubleWorkflow, 1, { key: 'same' });
    const second = await other.orchestrator.start(DoubleWorkflow, 2, { key: 'same' });

    expect([await first.result(), await second.result()]).toEqual([2, 4]);
    await expect(one.orchestrator.get(second.id)).rejects.toMatchObject({ code: 'RUN_NOT_FOUND' });
  });

  it('may be clients only: they start and wait, and execute nothing', async () => {
    const options = { schema: 'clients' };
    const client = await startApp({ database, providers: [DoubleWorkflow], options: { ...options, worker: false } });

    const run = await client.orchestrator.start(DoubleWorkflow, 11);
    await expect(run.result({ timeout: 300 })).rejects.toMatchObject({ code: 'RESULT_TIMEOUT' });
    expect(await run.status()).toBe('pending');
    expect(await query('select from clients.worker')).toEqual([]);

    await startApp({ database, providers: [DoubleWorkflow], options });
    expect(await run.result()).toBe(22);
  });
});

describe('The life of an app', () => {
  it('lets a provider use the Orchestrator in its onModuleInit', async () => {
    @Injectable()
    class Warmer implements OnModuleInit {
      run: Awaited<ReturnType<typeof this.start>> | undefined;
      constructor(private readonly orchestrator: Orchestrator) {}
      async onModuleInit(): Promise<void> {
        this.run = await this.start();
      }
      start() {
        return this.orchestrator.start(DoubleWorkflow, 50);
      }
    }
    const app = await startApp({ database, providers: [DoubleWorkflow, Warmer] });

    expect(await app.get(Warmer).run?.result()).toBe(100);
  });

  it('ends with running steps finished, before TypeORM closes the connections that they use', async () => {
    const inStep = new Barrier();
    const log: string[] = [];
    @Workflow('slow')
    class SlowWorkflow {
      constructor(
        private readonly ctx: RunContext,
        private readonly dataSource: DataSource,
      ) {}
      run(): Promise<string> {
        return this.ctx.step('slow', async () => {
          await inStep.pass();
          const [row] = await this.dataSource.query<{ answer: string }[]>(`select 'still connected' as answer`);
          log.push('step');
          return row!.answer;
        });
      }
    }
    const app = await boot({
      imports: [TypeOrmModule.forRoot(database.connection), OrchestrationModule.forRoot({ schema: 'drained' })],
      providers: [SlowWorkflow],
    });
    const run = await app.get(Orchestrator).start(SlowWorkflow, undefined as never);
    await inStep.reached();

    const closed = app.close().then(() => log.push('closed'));
    inStep.open();
    await Promise.all([closed, app.close()]);

    expect(log).toEqual(['step', 'closed']);
    const [stored] = await query<{ output: string; workers: number }>(
      `select h.output, (select count(*)::int from drained.worker) as workers from drained.history h where run_id = $1`,
      [run.id],
    );
    expect(stored).toEqual({ output: '"still connected"', workers: 0 });
  });

  it('tells what happens to runs, and completes that stream at its end', async () => {
    const app = await startApp({ database, providers: [DoubleWorkflow, QuadrupleWorkflow] });
    const events = firstValueFrom(app.orchestrator.events$.pipe(toArray()));

    const run = await app.orchestrator.start(QuadrupleWorkflow, 1);
    await run.result();
    await app.close();

    const own = (await events).filter((event) => event.runId === run.id).map((event) => event.type);
    expect(own[0]).toBe('run.started');
    expect(own.at(-1)).toBe('run.completed');
    const children = (await events).filter((event: RunEvent) => event.parentId === run.id);
    expect(children.map(({ type }) => type)).toEqual([
      ...['run.started', 'step.completed', 'run.completed'],
      ...['run.started', 'step.completed', 'run.completed'],
    ]);
    expect(children.every(({ at, rootId }) => at instanceof Date && rootId === run.id)).toBe(true);
  });

  it('may be left without a boot: what was compiled and never initialised has no connection', async () => {
    const module = await Test.createTestingModule({
      imports: [
        OrchestrationModule.forRoot({ connection: { ...database.connection, applicationName: 'never-started' } }),
      ],
      providers: [DoubleWorkflow],
    }).compile();

    await module.close();

    expect(await query(`select from pg_stat_activity where application_name = 'never-started'`)).toEqual([]);
  });
});
