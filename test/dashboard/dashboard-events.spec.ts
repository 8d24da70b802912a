import { connect, type Socket } from 'node:net';

import type { RunEvent } from '../../lib/index.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';
import { closeDashboards, type DashboardApp, type Platform, startDashboard } from './dashboard-app.js';

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
});

afterEach(() => closeDashboards());

afterAll(() => database.drop());

interface Changes {
  events: RunEvent[];
  leftOut: boolean;
}

const Echo = workflow<string>('echo', ({ ctx }, name) => ctx.step('say', () => `hello ${name}`));

/** Somebody who watches, over a socket of his own, and takes what comes only while he reads. */
class Watcher {
  text = '';
  isEnded = false;

  private constructor(readonly socket: Socket) {
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => (this.text += chunk));
    socket.on('close', () => (this.isEnded = true));
    socket.on('error', () => (this.isEnded = true));
  }

  static async of(url: string): Promise<Watcher> {
    const { hostname, port } = new URL(url);
    const watcher = new Watcher(connect(Number(port), hostname));
    watcher.socket.write('GET /orchestration/api/events HTTP/1.1\r\nhost: dashboard\r\n\r\n');
    await until('the stream begins', () => watcher.text.includes('retry:'));
    return watcher;
  }

  get changes(): Changes[] {
    return [...this.text.matchAll(/^event: changes\ndata: (.+)\n\n/gm)].map(([, data]) => JSON.parse(data!) as Changes);
  }

  get events(): RunEvent[] {
    return this.changes.flatMap(({ events }) => events);
  }
}

/** What happens in the engine, as its workers say it. */
function isObserved({ orchestrator }: DashboardApp): boolean {
  return (orchestrator.events$ as unknown as { observed: boolean }).observed;
}

describe.each<[Platform]>([['express'], ['fastify']])('The live updates of the dashboard on %s', (platform) => {
  const start = () => startDashboard({ database, platform, providers: [Echo] });

  it('tell everybody who watches what happens to runs, and ask nothing of the engine when nobody does', async () => {
    const dashboard = await start();
    expect(isObserved(dashboard)).toBe(false);
    const watchers = [await Watcher.of(dashboard.url), await Watcher.of(dashboard.url)];

    const run = await dashboard.orchestrator.start(Echo, 'you');
    await Promise.all(
      watchers.map((watcher) =>
        until('the end is told', () => watcher.events.some(({ type }) => type === 'run.completed')),
      ),
    );
    expect(isObserved(dashboard)).toBe(true);
    for (const { socket } of watchers) socket.destroy();
    await until('nobody is listened for', () => !isObserved(dashboard));

    for (const watcher of watchers) {
      expect(watcher.text).toMatch(/^HTTP\/1\.1 200 OK\r\n[^]*content-type: text\/event-stream/i);
      expect(watcher.events.every(({ runId }) => runId === run.id)).toBe(true);
      expect(watcher.events.map(({ type }) => type)).toContain('step.completed');
    }
  });

  it('say that something was left out instead of growing with what happens', async () => {
    const dashboard = await start();
    const watcher = await Watcher.of(dashboard.url);
    watcher.text = '';
    const event = { type: 'run.started', runId: 'many', workflow: 'echo', rootId: 'many', at: new Date() };

    const events = dashboard.orchestrator.events$ as unknown as { next(event: object): void };
    for (let index = 0; index < 1_000; index++) events.next(event);
    await until('they are told', () => watcher.changes.length > 0);
    events.next({ ...event, runId: 'one' });
    await until('the next is told', () => watcher.changes.length > 1);

    expect(watcher.changes.map(({ events: told, leftOut }) => [told.length, leftOut])).toEqual([
      [200, true],
      [1, false],
    ]);
  });

  it('collect nothing for a reader who takes nothing, and go on when he does', async () => {
    const dashboard = await start();
    const watcher = await Watcher.of(dashboard.url);
    watcher.text = '';
    watcher.socket.pause();
    const events = dashboard.orchestrator.events$ as unknown as { next(event: object): void };
    const event = { type: 'run.started', runId: 'x'.repeat(100_000), workflow: 'echo', at: new Date() };

    // Each message is 20 MB: the first fills all buffers on the way.
    for (let round = 0; round < 3; round++) {
      for (let index = 0; index < 200; index++) events.next(event);
      await new Promise((resolve) => setTimeout(resolve, 600));
    }
    watcher.socket.resume();
    await until('what has waited is told', () => watcher.text.match(/^event: changes$/gm)?.length === 2);
    await until('it is whole', () => watcher.changes.length === 2);

    expect(watcher.changes.map(({ events: told, leftOut }) => [told.length, leftOut])).toEqual([
      [200, false],
      [200, true],
    ]);
  });

  it('end at once when the app closes, and none begins any more', async () => {
    const dashboard = await start();
    const watcher = await Watcher.of(dashboard.url);
    const begun = performance.now();

    await dashboard.app.close();
    const took = performance.now() - begun;
    await until('the stream ends', () => watcher.isEnded);

    expect(took).toBeLessThan(5_000);
  });
});
