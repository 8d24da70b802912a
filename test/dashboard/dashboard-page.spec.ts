import { unservedReason } from '../../lib/dashboard/page/unserved.js';
import type { RunDetails, WorkerInfo } from '../../lib/index.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';
import { closeDashboards, type Platform, startDashboard } from './dashboard-app.js';

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
});

afterEach(() => closeDashboards());

afterAll(() => database.drop());

describe.each<[Platform]>([['express'], ['fastify']])('The page of the dashboard on %s', (platform) => {
  it('is there with all that it needs, and the browser may load nothing else', async () => {
    const { url } = await startDashboard({ database, platform });

    const page = await fetch(`${url}/orchestration`);
    const html = await page.text();
    const assets = [...html.matchAll(/(?:src|href)="([^"]+\.(?:js|css))"/g)].map(
      ([, path]) => new URL(path!, page.url),
    );
    const loaded = await Promise.all(assets.map((asset) => fetch(asset)));
    const texts = await Promise.all(loaded.map((response) => response.text()));

    expect(page.headers.get('content-type')).toBe('text/html; charset=utf-8');
    expect(page.headers.get('content-security-policy')).toBe(
      "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; " +
        "form-action 'none'; frame-ancestors 'none'",
    );
    expect(page.headers.get('x-content-type-options')).toBe('nosniff');
    expect(assets.map(({ pathname }) => pathname)).toEqual([
      '/orchestration/assets/page.css',
      '/orchestration/assets/page.js',
    ]);
    expect(loaded.map(({ headers }) => headers.get('content-type'))).toEqual([
      'text/css; charset=utf-8',
      'text/javascript; charset=utf-8',
    ]);
    // What the policy would refuse anyway: other hosts, scripts and styles in the page itself.
    expect(html).not.toMatch(/<script(?![^>]*src)|<style|style=|\son\w+=|https?:/);
    expect(texts.join('')).not.toMatch(/innerHTML\s*=\s*[^n]{0,3}\bdata|document\.write|\beval\(/);
    expect(
      texts
        .join('')
        .match(/https?:\/\/[\w.]+/g)
        ?.filter((host) => !host.includes('www.w3.org')) ?? [],
    ).toEqual([]);
  });

  it('finds its assets from wherever the app has put it', async () => {
    const { url } = await startDashboard({
      ...{ database, platform, dashboard: { path: '/admin/runs' } },
      configure: (app) => app.setGlobalPrefix('v1'),
    });

    const page = await fetch(`${url}/v1/admin/runs?from=mail`);
    const [, script] = /src="([^"]+)"/.exec(await page.text())!;
    const loaded = await fetch(new URL(script!, page.url));
    const api = await fetch(new URL('../api/access', loaded.url));

    expect(loaded.status).toBe(200);
    expect(await api.json()).toEqual({ mayChange: true });
  });

  it('gives no other files away', async () => {
    const { url } = await startDashboard({ database, platform });
    const names = ['index.html', '..%2Findex.html', '..%2F..%2F..%2Fpackage.json', 'constructor', 'page.tsx'];

    const answers = await Promise.all(names.map((name) => fetch(`${url}/orchestration/assets/${name}`)));

    expect(answers.map(({ status }) => status)).toEqual(names.map(() => 404));
  });
});

const about = (text: string) => expect.stringContaining(text) as unknown;

describe('The page of a run', () => {
  const Waiting = workflow('waiting', ({ ctx }) => ctx.waitForSignal('go'));
  const Other = workflow('other', () => 'done');
  const ask = async <Answer>(url: string, place: string) =>
    (await (await fetch(`${url}/orchestration/api/${place}`)).json()) as Answer;

  it('says that no live worker has its code, as long as that is so', async () => {
    const old = await startDashboard({ database, providers: [Waiting] });
    const { id } = await old.orchestrator.start(Waiting, undefined);
    await until('it waits', async () => (await old.orchestrator.get(id)).status === 'waiting');
    const saidBy = async (url: string) =>
      unservedReason(await ask<RunDetails>(url, `runs/${id}`), await ask<WorkerInfo[]>(url, 'workers'));
    const served = await saidBy(old.url);
    await closeDashboards();

    const { url } = await startDashboard({ database, providers: [Other] });
    const script = await (await fetch(`${url}/orchestration/assets/page.js`)).text();

    expect(served).toBeUndefined();
    expect(await saidBy(url)).toBe(
      'No live worker has waiting@1: this run stays waiting until an app that provides it is deployed.',
    );
    expect(script).toContain('until an app that provides it is deployed');
  });

  it.each<[string, Partial<Parameters<typeof unservedReason>[0]>, object[], unknown]>([
    ['a worker has its code and queue', {}, [{}], undefined],
    ['another version', { version: 2 }, [{}], about('No live worker has order@2: this run stays pending')],
    ['another queue', { queue: 'mails' }, [{}], about("No live worker that has order@1 serves the queue 'mails'")],
    ['its worker is dead', {}, [{ alive: false }], about('No worker is alive')],
    ['one has the code and another the queue', {}, [{ queues: [] }, { workflows: [] }], about("the queue 'default'")],
    ['it has ended', { status: 'completed' }, [], undefined],
    ['it is blocked', { status: 'blocked' }, [], undefined],
  ])('tells by the workers who would take it: %s', (_, run, workers, reason) => {
    const idle = { workflow: 'order', version: 1, queue: 'default', status: 'pending', ...run };
    const all = workers.map((worker) => ({ alive: true, workflows: ['order@1'], queues: ['default'], ...worker }));

    expect(unservedReason(idle, all)).toEqual(reason);
  });
});
