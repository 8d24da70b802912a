import { once } from 'node:events';
import { get, type IncomingMessage, type RequestOptions } from 'node:http';

import {
  type CanActivate,
  type ExecutionContext,
  Injectable,
  Logger,
  Module,
  type NestInterceptor,
  UnauthorizedException,
  VersioningType,
} from '@nestjs/common';
import { Validator } from '@seriousme/openapi-schema-validator';
import { map } from 'rxjs';

import { OrchestrationDashboardModule } from '../../lib/dashboard/index.js';
import {
  DefinitionError,
  type HistoryEntry,
  type Page,
  type PendingInput,
  type QueueState,
  type RunDetails,
  type RunSummary,
  type RunTree,
  type Schedule,
  type Stats,
  type WorkerInfo,
} from '../../lib/index.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';
import { ApiClient } from './api-client.js';
import { closeDashboards, type Platform, startDashboard } from './dashboard-app.js';

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
});

afterEach(() => closeDashboards());

afterAll(() => database.drop());

const PLATFORMS: [Platform][] = [['express'], ['fastify']];
const UNKNOWN = '0193a000-0000-7000-8000-000000000000';

interface Problem {
  statusCode: number;
  code: string;
  message: string;
  issues?: { message: string; path?: string[] }[];
}

const Echo = workflow<{ name: string }>('echo', ({ ctx }, { name }) => ctx.step('say', () => `hello ${name}`));

const Parent = workflow<string, string>('parent', async ({ ctx, children }, city) => {
  await ctx.setAttributes({ city });
  await children.start(Echo, { name: city }, { ref: 'greeting' });
  return ctx.waitForSignal<string>('go');
});

const Asking = workflow('asking', ({ ctx }) =>
  ctx.waitForInput('refund', { type: 'choice', prompt: 'How?', choices: ['money', 'voucher'] }),
);

const Broken = workflow('broken', ({ ctx }) =>
  ctx.step(
    'charge',
    () => {
      new Logger('Cards').warn('The card is unknown');
      throw new TypeError('No card');
    },
    { retry: { maxAttempts: 1 } },
  ),
);

const Exotic = workflow<unknown>('exotic', (_tools, input) => input);

const PROVIDERS = [Echo, Parent, Asking, Broken, Exotic];

describe.each(PLATFORMS)('The API of the dashboard on %s', (platform) => {
  it('has a valid OpenAPI document, and does by each operation what it says there', async () => {
    const { orchestrator, url } = await startDashboard({ database, platform, providers: PROVIDERS });
    const api = await ApiClient.of(`${url}/orchestration`);
    const validity = await new Validator().validate(structuredClone(api.document) as never);
    const tenant = `acme-${platform}`;

    const parent = await orchestrator.start(Parent, 'Oslo', { tenant, label: 'first' });
    const asking = await orchestrator.start(Asking, undefined, { tenant });
    const broken = await orchestrator.start(Broken, undefined, { tenant });
    await broken.result().catch(() => undefined);
    const params = { runId: parent.id };
    await until('the parent waits', async () => {
      const { body } = await api.call<RunDetails>('getRun', { params });
      return body.status === 'waiting' && body.waitingFor[0]?.kind === 'signal';
    });
    const tree = await api.call<RunTree>('getTree', { params });
    const history = await api.call<HistoryEntry[]>('getHistory', { params: { runId: broken.id } });
    const first = await api.call<Page<RunSummary>>('listRuns', { query: { tenant, rootOnly: 'true', limit: '2' } });
    const rest = await api.call<Page<RunSummary>>('listRuns', {
      query: { tenant, rootOnly: 'true', cursor: first.body.nextCursor! },
    });
    const found = await api.call<Page<RunSummary>>('listRuns', {
      query: {
        tenant,
        status: ['waiting', 'failed'],
        attributes: '{"city":"Oslo"}',
        createdAfter: '2020-01-01T00:00:00Z',
      },
    });

    expect(validity).toMatchObject({ valid: true });
    expect(tree.body).toMatchObject({ workflow: 'parent', children: [{ workflow: 'echo', ref: 'greeting' }] });
    expect(history.body).toMatchObject([
      {
        ...{ name: 'charge', status: 'failed', error: { name: 'TypeError', message: 'No card' } },
        logs: [{ level: 'warn', context: 'Cards', message: 'The card is unknown', attempt: 1 }],
      },
    ]);
    expect([...first.body.items, ...rest.body.items].map(({ id }) => id)).toEqual([broken.id, asking.id, parent.id]);
    expect(rest.body.nextCursor).toBeUndefined();
    expect(found.body.items.map(({ id }) => id)).toEqual([parent.id]);

    expect((await api.call('pauseRun', { params })).status).toBe(204);
    expect((await orchestrator.get(parent.id)).paused).toBe(true);
    expect((await api.call('resumeRun', { params })).status).toBe(204);
    const signalled = await api.call('signalRun', { params, body: { name: 'go', payload: 'on', id: 'once' } });
    expect(signalled.status).toBe(204);
    expect(await parent.result()).toBe('on');

    const pending = await api.call<Page<PendingInput>>('listInputs', { query: { workflow: 'asking' } });
    expect(pending.body.items).toMatchObject([{ runId: asking.id, name: 'refund', choices: ['money', 'voucher'] }]);
    const answering = { runId: asking.id, name: 'refund' };
    const wrong = await api.call<Problem>('provideInput', { params: answering, body: { value: 'cake' } });
    expect(wrong).toMatchObject({ status: 400, body: { code: 'VALIDATION' } });
    await api.call('provideInput', { params: answering, body: { value: 'voucher' } });
    expect(await asking.result()).toBe('voucher');

    const fork = await api.call<{ id: string; started: boolean }>('forkRun', {
      params: { runId: broken.id },
      body: { fromStep: 'charge' },
    });
    expect(fork.body.id).not.toBe(broken.id);
    await orchestrator.result(fork.body.id).catch(() => undefined);
    expect((await api.call('retryRun', { params: { runId: broken.id } })).status).toBe(204);
    await orchestrator.result(broken.id).catch(() => undefined);
    expect(await api.call('cancelRun', { params: { runId: broken.id }, body: { reason: 'over' } })).toEqual({
      status: 200,
      body: { cancelled: 0, requested: 0 },
    });
    await api.call('deleteRun', { params: { runId: broken.id } });
    expect((await api.call('getRun', { params: { runId: broken.id } })).status).toBe(404);

    const queue = { name: `mails ${platform}/ü` };
    await api.call('configureQueue', { params: queue, body: { concurrency: 3, rateLimit: { limit: 5, per: '1s' } } });
    await api.call('pauseQueue', { params: queue });
    const { body: queues } = await api.call<QueueState[]>('listQueues');
    expect(queues.find(({ name }) => name === queue.name)).toMatchObject({ paused: true, limits: { concurrency: 3 } });
    await api.call('resumeQueue', { params: queue });
    await api.call('resetQueue', { params: queue });
    expect((await orchestrator.queues.list()).find(({ name }) => name === queue.name)?.limits ?? {}).toEqual({});

    await orchestrator.schedules.upsert(tenant, { workflow: Echo, input: { name: 'you' }, every: '2d' });
    const schedule = { id: tenant };
    await api.call('pauseSchedule', { params: schedule });
    const { body: listed } = await api.call<Page<Schedule>>('listSchedules', { query: { limit: '1000' } });
    expect(listed.items.find(({ id }) => id === tenant)).toMatchObject({ paused: true, workflow: 'echo' });
    await api.call('resumeSchedule', { params: schedule });
    const triggered = await api.call<{ id: string }>('triggerSchedule', { params: schedule });
    expect(await orchestrator.result(triggered.body.id)).toBe('hello you');
    expect((await api.call<Schedule>('getSchedule', { params: schedule })).body).toMatchObject({
      input: { name: 'you' },
      lastRunId: triggered.body.id,
    });
    await api.call('deleteSchedule', { params: schedule });
    expect((await api.call<Problem>('getSchedule', { params: schedule })).body.code).toBe('SCHEDULE_NOT_FOUND');

    const bulk = { filter: { workflow: 'broken', tenant, createdAfter: '2020-01-01T00:00:00Z' }, action: 'delete' };
    const forks = { ...bulk, filter: { status: ['failed'], workflow: 'broken' } };
    expect((await api.call('changeRuns', { body: bulk })).body).toEqual({ matched: 1, done: 1 });
    expect((await api.call('changeRuns', { body: { ...forks, dryRun: true } })).body).toEqual({ matched: 0, done: 0 });
    expect((await api.call<Problem>('changeRuns', { body: { ...bulk, filter: {} } })).body.code).toBe('VALIDATION');
    expect((await api.call<Stats>('getStats')).body.runs.completed).toBeGreaterThan(2);
    const { body: workers } = await api.call<WorkerInfo[]>('listWorkers');
    expect(workers.find(({ alive }) => alive)).toMatchObject({ pid: process.pid, queues: ['default'] });

    expect((await api.call('getAccess')).body).toEqual({ mayChange: true });
    expect(api.operations.filter((name) => !api.called.has(name))).toEqual(['streamEvents']);
  });

  it('answers errors of the library by their status, code and message, and bad input with its reasons', async () => {
    const { orchestrator, url } = await startDashboard({ database, platform, providers: PROVIDERS });
    const api = await ApiClient.of(`${url}/orchestration`);
    const done = await orchestrator.start(Echo, { name: 'done' });
    await done.result();
    const params = { runId: done.id };
    const answers = await Promise.all([
      api.call<Problem>('getHistory', { params: { runId: UNKNOWN } }),
      api.call<Problem>('getTree', { params: { runId: 'nonsense' } }),
      api.call<Problem>('signalRun', { params, body: { name: 'late' } }),
      api.call<Problem>('retryRun', { params }),
      api.call<Problem>('listRuns', { query: { colour: 'red', limit: 'many', status: 'tired' } }),
      api.call<Problem>('listRuns', { query: { attributes: '{' } }),
      api.call<Problem>('listRuns', { query: { createdAfter: 'soon' } }),
      api.call<Problem>('signalRun', { params, body: { nam: 'x' } }),
      api.call<Problem>('cancelRun', { params, body: { mode: 'rude' } }),
      api.call<Problem>('cancelRun', { params, body: ['graceful'] }),
      api.call<Problem>('configureQueue', { params: { name: 'default' }, body: { concurrency: 0 } }),
      api.call<Problem>('forkRun', { params, body: { fromStep: 'nowhere' } }),
    ]);

    expect(answers.map(({ status, body }) => [status, body.statusCode, body.code])).toEqual([
      [404, 404, 'RUN_NOT_FOUND'],
      [404, 404, 'RUN_NOT_FOUND'],
      [409, 409, 'RUN_FINISHED'],
      [409, 409, 'RUN_NOT_FINISHED'],
      ...Array.from({ length: 8 }, () => [400, 400, 'VALIDATION']),
    ]);
    const [, , , , list, json, date, signal, mode, body, queue, fork] = answers.map((answer) => answer.body.message);
    expect(list).toBe(
      'The query of listRuns: colour is unknown; status.0 must be equal to one of the allowed values: pending, running, ' +
        'waiting, blocked, completed, failed, cancelled; limit must be integer',
    );
    expect([json, date]).toEqual([
      'The query of listRuns: attributes must be JSON, such as {"city":"Oslo"}, not \'{\'',
      'The filter of list: createdAfter must be a valid Date',
    ]);
    expect(signal).toBe("The body of signalRun: must have required property 'name'; nam is unknown");
    expect([mode, body, queue]).toEqual([
      'The body of cancelRun: mode must be equal to one of the allowed values: graceful, terminate',
      'The body of cancelRun: must be object',
      'The body of configureQueue: concurrency must be >= 1',
    ]);
    expect(fork).toContain("no step 'nowhere'");
  });

  it('shows payloads that JSON has no form for', async () => {
    const { orchestrator, url } = await startDashboard({ database, platform, providers: PROVIDERS });
    const run = await orchestrator.start(Exotic, {
      ...{ amount: 12345678901234567890n, at: new Date(0), bytes: Buffer.from('hi'), none: undefined },
      ...{ map: new Map([['a', new Set([1, NaN])]]), error: new TypeError('odd'), html: '<script>alert(1)</script>' },
    });
    await run.result();

    const response = await fetch(`${url}/orchestration/api/runs/${run.id}`);
    const { input, output } = (await response.json()) as RunDetails & { output: unknown };

    expect(response.headers.get('content-type')).toContain('application/json');
    expect(response.headers.get('cache-control')).toBe('no-store');
    expect(output).toEqual(input);
    expect(input).toEqual({
      ...{ amount: '12345678901234567890', at: '1970-01-01T00:00:00.000Z', bytes: 'aGk=' },
      map: [['a', [1, 'NaN']]],
      error: expect.objectContaining({ name: 'TypeError', message: 'odd' }) as unknown,
      html: '<script>alert(1)</script>',
    });
  });

  it('is where path, the global prefix and the versioning of the app put it, whatever the interceptors of the app do', async () => {
    const { url } = await startDashboard({
      ...{ database, platform, dashboard: { path: 'ops/runs' } },
      configure: (app) => {
        const wrapping: NestInterceptor = {
          intercept: (_, next) => next.handle().pipe(map((data: unknown) => ({ data }))),
        };
        app.setGlobalPrefix('v0');
        app.enableVersioning({ type: VersioningType.URI, defaultVersion: '7' });
        app.useGlobalInterceptors(wrapping);
      },
    });
    const api = await ApiClient.of(`${url}/v0/ops/runs`);

    expect(api.document.servers).toEqual([{ url: '/v0/ops/runs/api' }]);
    expect((await api.call('getAccess')).body).toEqual({ mayChange: true });
  });

  it('shows the engine of its name', async () => {
    const Named = workflow<void, string>({ name: 'named', orchestration: 'second' }, () => 'of the second');
    const { orchestrator, url } = await startDashboard({
      ...{ database, platform, name: 'second', providers: [Named], dashboard: { name: 'second' } },
    });
    const run = await orchestrator.start(Named, undefined);
    const api = await ApiClient.of(`${url}/orchestration`);

    expect((await api.call('getRun', { params: { runId: run.id } })).body).toMatchObject({ workflow: 'named' });
    expect((await api.call('getAccess')).body).toEqual({ mayChange: true, engine: 'second' });
  });

  it('asks the guards before everything, with what they inject', async () => {
    const { url } = await startDashboard({
      ...{ database, platform, dashboard: { guards: [KeyGuard], imports: [KeysModule] } },
    });
    const places = [
      '',
      '/assets/page.js',
      '/api/access',
      '/api/openapi.json',
      '/api/events',
      '/api/runs',
      '/api/schedules/none',
    ];
    // The answer may be a stream, and `fetch` opens a spare connection for one that it has broken off.
    const statusOf = async (place: string, options: RequestOptions) => {
      const sent = get(`${url}/orchestration${place}`, { ...options, agent: false });
      const [response] = (await once(sent, 'response')) as [IncomingMessage];
      response.destroy();
      return response.statusCode;
    };

    const without = await Promise.all(places.map((place) => statusOf(place, {})));
    const withKey = await Promise.all(places.map((place) => statusOf(place, { headers: { 'x-key': 'sesame' } })));
    const change = await statusOf('/api/queues/default/pause', { method: 'POST' });

    expect(without).toEqual(places.map(() => 401));
    expect(withKey).toEqual([200, 200, 200, 200, 200, 200, 404]);
    expect(change).toBe(401);
  });

  it('refuses every change where it is read-only', async () => {
    const { url } = await startDashboard({ database, platform, providers: PROVIDERS, dashboard: { readOnly: true } });
    const api = await ApiClient.of(`${url}/orchestration`);
    const changes = Object.values(api.document.paths).flatMap((methods) =>
      Object.entries(methods).flatMap(([method, { operationId }]) => (method === 'get' ? [] : [operationId])),
    );
    const params = { runId: UNKNOWN, name: 'default', id: 'none' };

    const answers = await Promise.all(changes.map((change) => api.call<Problem>(change, { params })));

    expect(changes.length).toBeGreaterThan(10);
    expect(answers.map(({ status, body }) => [status, body.code])).toEqual(changes.map(() => [403, 'READ_ONLY']));
    expect((await api.call('getAccess')).body).toEqual({ mayChange: false });
    expect((await api.call('listRuns')).status).toBe(200);
  });

  it('lets those look who have a role of roles.view, and those change who have one of roles.operate', async () => {
    const { url } = await startDashboard({
      ...{ database, platform },
      dashboard: { guards: [UserGuard], roles: { view: ['support'], operate: ['admin'] } },
    });
    const statusesOf = async (roles: string) => {
      const ask = (path: string, method = 'GET') =>
        fetch(`${url}/orchestration/api/${path}`, { method, headers: { 'x-roles': roles } });
      const access = await ask('access');
      const { mayChange } = (await access.json()) as { mayChange?: boolean };
      return [access.status, (await ask('queues/default/resume', 'POST')).status, mayChange];
    };

    expect(await statusesOf('guest')).toEqual([403, 403, undefined]);
    expect(await statusesOf('support')).toEqual([200, 403, false]);
    expect(await statusesOf('guest,admin')).toEqual([200, 204, true]);
  });

  it('reads the roles of a request as roles.of says', async () => {
    const of = (request: unknown) => [(request as { headers: Record<string, string> }).headers['x-role'] ?? ''];
    const { url } = await startDashboard({ database, platform, dashboard: { roles: { operate: ['boss'], of } } });
    const resume = (role: string) =>
      fetch(`${url}/orchestration/api/queues/default/resume`, { method: 'POST', headers: { 'x-role': role } });

    expect((await resume('clerk')).status).toBe(403);
    expect((await resume('boss')).status).toBe(204);
  });

  it('refuses changes that a page of another site sends', async () => {
    const { url } = await startDashboard({ database, platform });
    const resume = async (headers: Record<string, string>) => {
      const response = await fetch(`${url}/orchestration/api/queues/default/resume`, { method: 'POST', headers });
      return response.status;
    };

    expect(await resume({ 'sec-fetch-site': 'cross-site' })).toBe(403);
    expect(await resume({ 'sec-fetch-site': 'same-site' })).toBe(403);
    expect(await resume({ origin: 'https://evil.example' })).toBe(403);
    expect(await resume({ origin: 'null' })).toBe(403);
    expect(await resume({ origin: url })).toBe(204);
    expect(await resume({ 'sec-fetch-site': 'same-origin' })).toBe(204);
  });
});

describe('The options of the dashboard', () => {
  const boot = (options: object) => startDashboard({ database, dashboard: options });

  it('have to have guards in production', async () => {
    // The tables are not made there.
    await boot({});
    const environment = process.env['NODE_ENV'];
    process.env['NODE_ENV'] = 'production';
    try {
      const { url } = await boot({ guards: [KeyGuard], imports: [KeysModule] });
      const answer = await fetch(`${url}/orchestration/api/access`, { headers: { 'x-key': 'sesame' } });
      const refused = await boot({}).catch((error: unknown) => error);
      const withNone = await boot({ guards: [] }).catch((error: unknown) => error);

      expect(answer.status).toBe(200);
      expect(refused).toBeInstanceOf(DefinitionError);
      expect(withNone).toMatchObject({ message: expect.stringContaining('guards are needed in production') as string });
    } finally {
      process.env['NODE_ENV'] = environment;
    }
  });

  it('are refused with all that is wrong', async () => {
    const options = {
      ...{ path: '/:id', guards: [Keys], readOnly: 'yes', name: '', colour: 'red' },
      roles: { view: [], operate: 'admin', of: 'me', edit: [] },
    };

    const refused = (await boot(options).catch((error: unknown) => error)) as DefinitionError;

    expect(refused.problems.map((problem) => problem.replace('OrchestrationDashboardModule: ', ''))).toEqual([
      "forRoot: unknown option 'colour' (known: path, guards, roles, readOnly, name, imports)",
      "path must be a path without parameters, not '/:id'",
      'guards must be a list of guard classes or instances',
      "readOnly must be true or false, not 'yes'",
      "name must be the name of an engine, not ''",
      "roles: unknown option 'edit' (known: view, operate, of)",
      'roles.view must be a list of at least one role',
      'roles.operate must be a list of at least one role',
      'roles.of must be a function',
    ]);
  });

  it('are refused by name where they are null', async () => {
    const options = { path: null, guards: null, roles: null, readOnly: null, name: null };

    const refused = (await boot(options as never).catch((error: unknown) => error)) as DefinitionError;

    expect(refused.problems.map((problem) => problem.replace('OrchestrationDashboardModule: ', ''))).toEqual([
      "path must be a path without parameters, not 'null'",
      'guards must be a list of guard classes or instances',
      "readOnly must be true or false, not 'null'",
      "name must be the name of an engine, not 'null'",
      'roles must be an object with view, operate, of, not null',
    ]);
  });

  it('may differ between two dashboards of one app', async () => {
    const { url } = await startDashboard({
      ...{ database, dashboard: { path: '/look', readOnly: true } },
      imports: [OrchestrationDashboardModule.forRoot({ path: '/act' })],
    });
    const mayChange = async (path: string) => (await fetch(`${url}/${path}/api/access`)).json();

    expect(await Promise.all([mayChange('look'), mayChange('act')])).toEqual([
      { mayChange: false },
      { mayChange: true },
    ]);
  });
});

@Injectable()
class Keys {
  readonly valid = 'sesame';
}

@Module({ providers: [Keys], exports: [Keys] })
class KeysModule {}

@Injectable()
class KeyGuard implements CanActivate {
  constructor(private readonly keys: Keys) {}

  canActivate(context: ExecutionContext): boolean {
    const { headers } = context.switchToHttp().getRequest<{ headers: Record<string, string> }>();
    if (headers['x-key'] !== this.keys.valid) throw new UnauthorizedException();
    return true;
  }
}

/** Leaves a user behind, as guards of apps do. */
@Injectable()
class UserGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<{ headers: Record<string, string>; user?: object }>();
    request.user = { roles: request.headers['x-roles']?.split(',') };
    return true;
  }
}
