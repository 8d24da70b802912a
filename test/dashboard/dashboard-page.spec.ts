import { createTestDatabase, type TestDatabase } from '../support/database.js';
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
