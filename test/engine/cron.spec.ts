import { Step } from '../../lib/index.js';
import { parseCron } from '../../lib/engine/cron.js';
import { RunContext, Workflow } from '../../lib/index.js';
import { closeApps, startApp } from '../support/app.js';
import { moveClock } from '../support/clock.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { until } from '../support/until.js';
import { workflow } from '../support/workflow.js';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
});

afterEach(closeApps);

afterAll(() => database.drop());

const options = { worker: { pollInterval: '20ms' } } as const;

/** The next ticks after a time, as texts. */
function ticks(cron: string, timeZone: string, after: string, count: number): string[] {
  const next = parseCron('the test', cron, { timeZone });
  const times: number[] = [];
  for (let time = Date.parse(after); times.length < count; times.push(time)) time = next(time);
  return times.map((time) => new Date(time).toISOString().slice(5, 16));
}

describe('a cron expression', () => {
  it('of five fields is to the minute, of six to the second, and a tick follows strictly after the time', () => {
    const at = Date.parse('2026-01-01T12:05:00.000Z');
    const inSeconds = (cron: string, after: number) => (parseCron('the test', cron, {})(after) - at) / 1_000;

    expect(inSeconds('*/5 * * * *', at - 1)).toBe(0);
    expect(inSeconds('*/5 * * * *', at)).toBe(300);
    expect(inSeconds('*/5 * * * *', at + 300)).toBe(300);
    expect(inSeconds('*/10 * * * * *', at)).toBe(10);
    // In UTC where no zone is named.
    expect(inSeconds('0 9 * * *', at)).toBe((20 * 60 + 55) * 60);
  });

  it('in the hour that clocks leave out comes when that hour would have begun; others are not shifted', () => {
    expect(ticks('30 2 * * *', 'Europe/Oslo', '2026-03-28T00:00Z', 3)).toEqual([
      '03-28T01:30',
      '03-29T01:00',
      '03-30T00:30',
    ]);
    expect(ticks('0 * * * *', 'Europe/Oslo', '2026-03-29T00:10Z', 2)).toEqual(['03-29T01:00', '03-29T02:00']);
    expect(ticks('0 9 * * MON-FRI', 'America/New_York', '2026-03-06T20:00Z', 2)).toEqual([
      '03-09T13:00',
      '03-10T13:00',
    ]);
  });

  it('in the hour that clocks repeat comes once at a fixed hour, and each time when it is every hour', () => {
    expect(ticks('30 2 * * *', 'Europe/Oslo', '2026-10-24T01:00Z', 2)).toEqual(['10-25T00:30', '10-26T01:30']);
    expect(ticks('30 * * * *', 'Europe/Oslo', '2026-10-25T00:00Z', 3)).toEqual([
      '10-25T00:30',
      '10-25T01:30',
      '10-25T02:30',
    ]);
  });
});

describe('ctx.sleepUntilNext', () => {
  it('sleeps until the tick in its time zone, by the clock of the database, over a restart (scenarios 57 and 58)', async () => {
    const own = await createTestDatabase();
    const nightly = workflow('nightly', async ({ ctx }) => {
      await ctx.sleepUntilNext('30 2 * * *', { timeZone: 'Europe/Oslo' });
      return ctx.now().getTime();
    });
    const doomed = await startApp({ database: own, providers: [nightly], options });
    await moveClock(own, Date.parse('2027-03-27T22:00:00Z') - Date.now());
    const { id } = await doomed.orchestrator.start(nightly, undefined);
    await until('it sleeps', async () => (await doomed.orchestrator.get(id)).status === 'waiting');
    const { wakeAt, waitingFor } = await doomed.orchestrator.get(id);
    await doomed.crash();

    // 2:30 is left out in that night: clocks go from 2:00 to 3:00.
    const tick = Date.parse('2027-03-28T01:00:00Z');
    const app = await startApp({ database: own, providers: [nightly], options });
    await moveClock(own, tick - MINUTE_MS - Date.now());
    const early = await app.orchestrator.result(id, { timeout: 200 }).catch((error: unknown) => error);
    await moveClock(own, tick - Date.now());
    const woken = await app.orchestrator.result<number>(id);

    expect(wakeAt).toEqual(new Date(tick));
    expect(waitingFor).toEqual([{ kind: 'timer', name: 'sleep', until: new Date(tick) }]);
    expect(early).toMatchObject({ code: 'RESULT_TIMEOUT' });
    expect(woken).toBeGreaterThanOrEqual(tick);
    expect(await app.orchestrator.history(id)).toMatchObject([{ kind: 'timer', name: 'sleep', status: 'completed' }]);
    await app.close();
    await own.drop();
  });

  it('in a loop wakes once for each tick, in UTC when no zone is named', async () => {
    const ticking = workflow('ticking', async ({ ctx }) => {
      const seconds: number[] = [];
      for (let tick = 0; tick < 3; tick++) {
        await ctx.sleepUntilNext('* * * * * *');
        seconds.push(Math.floor(ctx.now().getTime() / 1_000));
      }
      return seconds;
    });
    const { orchestrator } = await startApp({ database, providers: [ticking], options });

    const [first, ...others] = await orchestrator.execute(ticking, undefined);

    expect(others).toEqual([first! + 1, first! + 2]);
  });

  it("in a step's body sleeps from the call, and does not start anew after a crash", async () => {
    @Workflow('ticking-step')
    class TickingStep {
      constructor(private readonly ctx: RunContext) {}

      run(): Promise<void> {
        return this.hold();
      }

      @Step()
      async hold(): Promise<void> {
        await this.ctx.sleepUntilNext('0 * * * *');
      }
    }
    const doomed = await startApp({ database, providers: [TickingStep], options });
    const { id } = await doomed.orchestrator.start(TickingStep, undefined as never);
    await until('it sleeps', async () => (await doomed.orchestrator.get(id)).status === 'waiting');
    const before = await doomed.orchestrator.get(id);
    await doomed.crash();

    const app = await startApp({ database, providers: [TickingStep], options });
    await until('it sleeps again', async () => (await app.orchestrator.get(id)).status === 'waiting');

    const { wakeAt } = await app.orchestrator.get(id);
    expect(wakeAt).toEqual(before.wakeAt);
    expect(wakeAt!.getTime() % HOUR_MS).toBe(0);
    await app.orchestrator.cancel(id);
  });

  it.each<[string, [string, object?], string]>([
    ['no expression', ['soon'], "'soon' is no cron expression of 5 or 6 fields"],
    ['a field out of range', ['61 * * * *'], "'61 * * * *' is no cron expression: Invalid value for minute: 61"],
    ['seven fields', ['0 0 0 1 1 * 2030'], 'of 5 or 6 fields'],
    ['a date', ['2026-12-01T00:00:00'], 'of 5 or 6 fields'],
    ['a day that never comes', ['0 0 31 2 *'], "'0 0 31 2 *' never comes"],
    ['an unknown zone', ['* * * * *', { timeZone: 'Mars/Olympus' }], "'Mars/Olympus' is no time zone"],
    ['no zone', ['* * * * *', { timeZone: 1 }], "'1' is no time zone"],
    ['an unknown option', ['* * * * *', { timezone: 'UTC' }], "unknown option 'timezone' (known: timeZone)"],
  ])('refuses %s at once, with the reason', async (_, [cron, zone], reason) => {
    const asking = workflow('asking', ({ ctx }) => ctx.sleepUntilNext(cron, zone));
    const { orchestrator } = await startApp({ database, providers: [asking], options });

    const run = await orchestrator.start(asking, undefined);
    const error: unknown = await run.result().catch((cause: unknown) => cause);

    expect(error).toMatchObject({
      cause: { name: 'ValidationError', message: expect.stringContaining(reason) as unknown },
    });
    expect(await orchestrator.history(run.id)).toEqual([]);
  });
});
