import pg from 'pg';

import {
  DefinitionError,
  type DeclaredSchedule,
  ScheduleNotFoundError,
  type ScheduleOptions,
  ValidationError,
  WorkflowNotRegisteredError,
} from '../../lib/index.js';
import { dueAt, dueTicks, firingOf, ticksOf } from '../../lib/engine/schedule.js';
import { closeApps, startApp, type TestApp } from '../support/app.js';
import { moveClock } from '../support/clock.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { HeldRows } from '../support/held-rows.js';
import { until } from '../support/until.js';
import { killWorkers, WorkerProcess } from '../support/worker-process.js';
import { workflow } from '../support/workflow.js';

const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;

const quick = workflow('quick', (_tools, input: unknown) => input);
/** Ends when its hour is over. */
const hourly = workflow('hourly', ({ ctx }) => ctx.sleep('1h'));
const providers = [quick, hourly];
const fast = { worker: { pollInterval: '20ms' } } as const;
/** Its regular look is out of the way, so that it does what a timer or a call makes it do. */
const slow = { worker: { pollInterval: '1h', lease: '10h' } } as const;

let database: TestDatabase;
let client: pg.Client;

beforeAll(async () => {
  database = await createTestDatabase();
  client = new pg.Client({ connectionString: database.url });
  await client.connect();
  await (await boot(slow)).close();
});

afterEach(async () => {
  await HeldRows.releaseAll();
  await client.query('rollback');
  await killWorkers();
  await closeApps();
  await client.query('truncate orchestration.run, orchestration.history, orchestration.watch, orchestration.schedule');
  await moveClock(database, 0);
});

afterAll(async () => {
  await client.end();
  await database.drop();
});

const boot = (options = {}, more: Partial<Parameters<typeof startApp>[0]> = {}) =>
  startApp({ database, providers, options: { ...fast, ...options }, ...more });

/** The runs of a schedule, the oldest first, by the time of their tick. */
async function ticksStarted({ orchestrator }: TestApp, id: string): Promise<string[]> {
  const { items } = await orchestrator.list({ search: `schedule:${id}:`, limit: 1_000 });
  return items.map(({ key }) => key!.slice(`schedule:${id}:`.length)).toSorted();
}

/** Sets the clock of the database, as far as the engine sees it. */
async function setClock(time: string): Promise<void> {
  await moveClock(database, Date.parse(time) - Date.now());
}

/** Until the schedule has gone beyond a time. */
async function untilBeyond(app: TestApp, id: string, time: string): Promise<void> {
  const { schedules } = app.orchestrator;
  await until(`${id} is beyond ${time}`, async () => (await schedules.get(id)).nextRunAt! > new Date(`${time}Z`));
}

describe('The ticks of a schedule', () => {
  const plan = { id: 'test', cron: null, everyMs: null, timeZone: 'UTC', missed: 'once', jitterMs: 0 } as const;
  const hours = { ...plan, cron: '0 * * * *' };
  const at = (time: string) => Date.parse(`2026-06-01T${time}Z`);
  const found = (of: Parameters<typeof dueTicks>[0], from: string, now: string) => {
    const { due: ticks, next } = dueTicks(of, at(from), at(now));
    return {
      due: ticks.map(({ time }) => new Date(time).toISOString().slice(11, 16)),
      next: new Date(next).toISOString().slice(11, 16),
    };
  };

  it('are each after the one before, however late the look is', () => {
    const seconds = { ...plan, everyMs: SECOND_MS };
    const { due: ticks, next } = dueTicks(seconds, at('12:00'), at('12:00:03.5'));

    expect(ticks.map(({ time }) => time - at('12:00'))).toEqual([0, 1_000, 2_000, 3_000]);
    expect(next - at('12:00')).toBe(4_000);
  });

  it('that are missed are what the policy says, and those within a minute are not missed', () => {
    expect(found({ ...hours, missed: 'skip' }, '09:00', '12:30')).toEqual({ due: [], next: '13:00' });
    expect(found({ ...hours, missed: 'once' }, '09:00', '12:30')).toEqual({ due: ['12:00'], next: '13:00' });
    expect(found({ ...hours, missed: 'all' }, '09:00', '12:30').due).toEqual(['09:00', '10:00', '11:00', '12:00']);
    expect(found({ ...hours, missed: 'skip' }, '09:00', '12:00:59')).toEqual({ due: ['12:00'], next: '13:00' });
    expect(found({ ...hours, missed: 'once' }, '09:00', '12:00:59').due).toEqual(['11:00', '12:00']);
    expect(found({ ...hours, missed: 'skip' }, '12:00', '12:01').due).toEqual(['12:00']);
  });

  it('that are made up for are the last hundred', () => {
    const minutes = { ...plan, everyMs: MINUTE_MS, missed: 'all' } as const;
    const { due: ticks, next } = dueTicks(minutes, at('00:00'), at('23:00:30'));
    const missed = ticks.filter((tick) => tick.missed);

    expect(missed).toHaveLength(100);
    expect(missed.map(({ time }) => time)).toEqual(
      Array.from({ length: 100 }, (_, index) => at('22:59') - (99 - index) * MINUTE_MS),
    );
    expect(ticks.slice(100)).toEqual([{ time: at('23:00'), missed: false }]);
    expect(next).toBe(at('23:01'));
  });

  it('of every are aligned to the epoch', () => {
    const ticks = ticksOf('test', { ...plan, everyMs: 7 * MINUTE_MS });

    expect(ticks.next(at('12:00')) % (7 * MINUTE_MS)).toBe(0);
    expect(ticks.last(at('12:00'), 2)).toEqual([
      ticks.next(at('12:00')) - 14 * MINUTE_MS,
      ticks.next(at('12:00')) - 7 * MINUTE_MS,
    ]);
  });

  it('are late by a jitter that differs from tick to tick, and is the same wherever it is computed', () => {
    const jittered = { id: 'test', jitterMs: 10 * MINUTE_MS };
    const delays = Array.from({ length: 50 }, (_, hour) => dueAt(jittered, hour * HOUR_MS) - hour * HOUR_MS);

    expect(delays.every((delay) => delay >= 0 && delay < 10 * MINUTE_MS)).toBe(true);
    expect(new Set(delays).size).toBeGreaterThan(45);
    expect(delays[7]).toBe(dueAt({ ...jittered }, 7 * HOUR_MS) - 7 * HOUR_MS);
    expect(dueAt({ ...jittered, id: 'another' }, 0)).not.toBe(dueAt(jittered, 0));
  });

  it('66. go over the change of clocks: none is left out, none comes twice', () => {
    const nights = { ...plan, cron: '30 2 * * *', timeZone: 'Europe/Oslo', missed: 'all' } as const;
    const over = (from: string, to: string) =>
      dueTicks(nights, Date.parse(from), Date.parse(to)).due.map(({ time }) =>
        new Date(time).toISOString().slice(5, 16),
      );

    expect(over('2026-03-28T01:30Z', '2026-03-31T00:00Z')).toEqual(['03-28T01:30', '03-29T01:00', '03-30T00:30']);
    expect(over('2026-10-24T00:30Z', '2026-10-27T00:00Z')).toEqual(['10-24T00:30', '10-25T00:30', '10-26T01:30']);
  });

  it('start what overlap says', () => {
    const ticks = [1, 2, 3].map((time) => ({ time, missed: false }));
    const missed = ticks.map((tick) => ({ ...tick, missed: true }));
    const starts = (...args: Parameters<typeof firingOf>) =>
      firingOf(...args).starts.map(({ time, behind }) => (behind ? `${time} behind` : `${time}`));

    expect(starts('skip', ticks, 'ended')).toEqual(['1']);
    expect(starts('skip', ticks, 'active')).toEqual([]);
    expect(starts('skip', missed, 'ended')).toEqual(['1', '2 behind', '3 behind']);
    expect(starts('allow', ticks, 'active')).toEqual(['1', '2', '3']);
    expect(starts('cancel', missed, 'active')).toEqual(['3']);
    expect(firingOf('cancel', ticks, 'active').cancelsLast).toBe(true);
    expect(firingOf('cancel', ticks, 'ended').cancelsLast).toBe(false);
    expect(starts('buffer', ticks, 'ended')).toEqual(['1', '2 behind']);
    expect(starts('buffer', ticks, 'active')).toEqual(['1 behind']);
    expect(starts('buffer', ticks, 'waiting')).toEqual([]);
  });
});

describe('A schedule', () => {
  it('66. fires once for each tick over all replicas, with the tick in the key', async () => {
    await setClock('2026-12-01T12:00:30.000Z');
    const [app] = await Promise.all([boot(), boot(), boot(), boot()]);
    await app.orchestrator.schedules.upsert('each', {
      workflow: quick,
      input: { of: 'each' },
      every: '1s',
      overlap: 'allow',
    });
    const before = (await app.orchestrator.schedules.get('each')).nextRunAt!;

    await until('there are five', async () => (await ticksStarted(app, 'each')).length >= 5);
    await app.orchestrator.schedules.pause('each');

    const started = await ticksStarted(app, 'each');
    const expected = started.map((_, index) => new Date(before.getTime() + index * SECOND_MS).toISOString());
    expect(started).toEqual(expected);
    const run = await app.orchestrator.findByKey(quick, `schedule:each:${expected[0]}`);
    await app.orchestrator.result(run!.id);
    expect(run!.input).toEqual({ of: 'each' });
  });

  it('is shown with what it does, when it last started a run, and when the next is due', async () => {
    await setClock('2026-12-01T08:59:59.000Z');
    const { orchestrator } = await boot();
    const { schedules } = orchestrator;
    const made = await schedules.upsert('daily', {
      workflow: quick,
      input: 7,
      cron: '0 10 * * MON-FRI',
      timeZone: 'Europe/Oslo',
      jitter: 0,
    });
    await until('it has fired', async () => (await schedules.get('daily')).lastRunId !== undefined);

    const shown = await schedules.get('daily');

    expect(made).toMatchObject({
      ...{
        id: 'daily',
        workflow: 'quick',
        input: 7,
        cron: '0 10 * * MON-FRI',
        every: undefined,
        timeZone: 'Europe/Oslo',
      },
      ...{ overlap: 'skip', missed: 'once', jitter: 0, declared: false, paused: false, lastRunAt: undefined },
      ...{ lastRunId: undefined, nextRunAt: new Date('2026-12-01T09:00:00Z') },
    });
    expect(shown.nextRunAt).toEqual(new Date('2026-12-02T09:00:00Z'));
    expect(shown.lastRunAt!.getTime()).toBeGreaterThanOrEqual(Date.parse('2026-12-01T09:00:00Z'));
    expect((await orchestrator.get(shown.lastRunId!)).key).toBe('schedule:daily:2026-12-01T09:00:00.000Z');
    await schedules.upsert('another', { workflow: 'quick', input: 1, every: '1h' });
    const first = await schedules.list({ limit: 1 });
    const second = await schedules.list({ limit: 1, cursor: first.nextCursor! });
    expect([first, second].map(({ items }) => items.map(({ id }) => id))).toEqual([['another'], ['daily']]);
    expect(second.nextCursor).toBeUndefined();
    expect(first.items[0]).not.toHaveProperty('input');
  });

  it('has all that its options say, and its ticks are late by its jitter', async () => {
    await setClock('2026-12-01T12:30:00.000Z');
    const { schedules } = (await boot({ worker: false })).orchestrator;
    const rules = { overlap: 'buffer', missed: 'all' } as const;

    const made = await schedules.upsert('jittered', {
      ...{ workflow: quick, input: { of: 'it' }, every: '2h', jitter: '90m', ...rules },
    });

    const due = dueAt({ id: 'jittered', jitterMs: 90 * MINUTE_MS }, Date.parse('2026-12-01T14:00:00Z'));
    expect(made).toStrictEqual({
      ...{ id: 'jittered', workflow: 'quick', input: { of: 'it' }, cron: undefined, every: 2 * HOUR_MS },
      ...{ timeZone: 'UTC', ...rules, jitter: 90 * MINUTE_MS, declared: false, paused: false },
      ...{ createdAt: expect.any(Date) as Date, lastRunAt: undefined, lastRunId: undefined, nextRunAt: new Date(due) },
    });
    expect(Math.abs(made.createdAt.getTime() - Date.parse('2026-12-01T12:30:00Z'))).toBeLessThan(MINUTE_MS);
    expect(due).toBeGreaterThan(Date.parse('2026-12-01T14:00:00Z'));
  });

  it.each([
    ['skip', []],
    ['once', ['2026-12-01T15:00:00.000Z']],
    ['all', ['13', '14', '15'].map((hour) => `2026-12-01T${hour}:00:00.000Z`)],
  ] as const)('66. handles downtime as missed says: %s', async (missed, expected) => {
    await setClock('2026-12-01T12:30:00.000Z');
    const first = await boot();
    await first.orchestrator.schedules.upsert('hours', { workflow: quick, cron: '0 * * * *', missed });
    await first.crash();
    await setClock('2026-12-01T15:20:00.000Z');

    const second = await boot();
    await untilBeyond(second, 'hours', '2026-12-01T15:20');

    await until(
      'all have ended',
      async () => (await second.orchestrator.list({ status: ['pending', 'running', 'waiting'] })).items.length === 0,
    );
    expect(await ticksStarted(second, 'hours')).toEqual(expected);
  });

  it('keeps its place in its ticks when it is upserted anew, unless its timing is another one', async () => {
    await setClock('2026-12-01T12:30:00.000Z');
    const off = await boot({ worker: false });
    const { schedules } = off.orchestrator;
    const hours = { workflow: quick, cron: '0 * * * *' } as const;
    const doomed = await boot();
    await schedules.upsert('hours', hours);
    await doomed.crash();
    await setClock('2026-12-01T14:30:00.000Z');
    await client.query(`update orchestration.worker set expires_at = 'infinity'`);

    const changed = await schedules.upsert('hours', { ...hours, input: 'new', missed: 'all', jitter: '1s' });
    const elsewhere = await schedules.upsert('hours', { ...hours, input: 'new', timeZone: 'Asia/Kolkata' });

    expect(changed.input).toBe('new');
    expect(changed.nextRunAt!.toISOString().slice(0, 17)).toBe('2026-12-01T13:00:');
    expect(elsewhere.nextRunAt).toEqual(new Date('2026-12-01T15:30:00Z'));
  });

  it('that is paused starts nothing and makes up for nothing, but can be triggered', async () => {
    await setClock('2026-12-01T12:30:00.000Z');
    const app = await boot();
    const { schedules } = app.orchestrator;
    await schedules.upsert('hours', { workflow: quick, input: 1, cron: '0 * * * *', missed: 'all' });
    await schedules.pause('hours');
    await setClock('2026-12-01T14:30:00.000Z');

    const triggered = await schedules.trigger('hours');
    const output = await triggered.result();
    const paused = await schedules.get('hours');
    await schedules.upsert('hours', { workflow: quick, input: 2, cron: '0 * * * *', missed: 'all' });
    const upserted = await schedules.get('hours');
    await schedules.resume('hours');

    expect([triggered.started, output]).toEqual([true, 1]);
    expect(paused).toMatchObject({ paused: true, nextRunAt: undefined, lastRunId: triggered.id });
    expect(upserted.paused).toBe(true);
    expect(await schedules.get('hours')).toMatchObject({ paused: false, nextRunAt: new Date('2026-12-01T15:00:00Z') });
    const [key] = await ticksStarted(app, 'hours');
    expect(key!.startsWith('2026-12-01T14:30')).toBe(true);
    expect(await ticksStarted(app, 'hours')).toHaveLength(1);
  });

  it('that is deleted starts nothing more, and its runs go on', async () => {
    await setClock('2026-12-01T12:59:59.500Z');
    const { orchestrator } = await boot();
    const { schedules } = orchestrator;
    await schedules.upsert('hours', { workflow: hourly, cron: '0 * * * *' });
    await until('it has fired', async () => (await schedules.get('hours')).lastRunId !== undefined);
    const { lastRunId } = await schedules.get('hours');

    await schedules.delete('hours');
    await schedules.delete('hours');

    await expect(schedules.get('hours')).rejects.toThrow(ScheduleNotFoundError);
    await expect(schedules.trigger('hours')).rejects.toThrow("There is no schedule 'hours'");
    await expect(schedules.pause('hours')).rejects.toThrow(ScheduleNotFoundError);
    await expect(schedules.resume('hours')).rejects.toThrow(ScheduleNotFoundError);
    expect((await orchestrator.get(lastRunId!)).finishedAt).toBeUndefined();
  });

  it.each<[string, object, string]>([
    ['no expression', { cron: 'often' }, "'often' is no cron expression of 5 or 6 fields"],
    ['an expression that never comes', { cron: '0 0 31 2 *' }, "'0 0 31 2 *' never comes"],
    ['an unknown zone', { cron: '0 9 * * *', timeZone: 'Mars/Olympus' }, "'Mars/Olympus' is no time zone"],
    ['neither cron nor every', {}, 'give either cron or every'],
    ['both', { cron: '0 9 * * *', every: '1h' }, 'give either cron or every'],
    ['a zone of every', { every: '1h', timeZone: 'UTC' }, 'timeZone goes with cron'],
    ['too often', { every: '10ms' }, 'every "10ms" must be a duration of at least 1s'],
    [
      'an unknown overlap',
      { every: '1h', overlap: 'queue' },
      'overlap must be one of skip, allow, cancel, buffer, not "queue"',
    ],
    ['an unknown policy', { every: '1h', missed: 'none' }, 'missed must be one of skip, once, all, not "none"'],
    ['a wrong jitter', { every: '1h', jitter: '-1s' }, "jitter '-1s' must be a duration of at most a day"],
    ['an unknown option', { every: '1h', cronn: 'x' }, "unknown option 'cronn'"],
  ])('66. is refused with %s, at upsert and at boot', async (_what, wrong, message) => {
    const { orchestrator } = await boot();
    const declaring = workflow({ name: 'declaring', schedules: [wrong as DeclaredSchedule] }, () => undefined);

    const upserting = orchestrator.schedules.upsert('wrong', { workflow: 'quick', ...wrong } as ScheduleOptions);
    const booting = boot({}, { providers: [declaring] });

    await expect(upserting).rejects.toThrow(ValidationError);
    await expect(upserting).rejects.toThrow(message);
    await expect(booting).rejects.toThrow(DefinitionError);
    await expect(booting).rejects.toThrow(message);
  });

  it('is refused without an id, or with a workflow that nobody registers', async () => {
    const { orchestrator } = await boot();

    await expect(orchestrator.schedules.upsert('', { workflow: quick, every: '1h' })).rejects.toThrow(ValidationError);
    await expect(orchestrator.schedules.upsert('x', { workflow: 'quik', every: '1h' })).rejects.toThrow(
      WorkflowNotRegisteredError,
    );
  });
});

describe('When the run before is active', () => {
  /** One that has fired at 13:00, and whose run is parked. */
  async function fired(overlap: 'skip' | 'allow' | 'cancel' | 'buffer') {
    await setClock('2026-12-01T12:59:00.000Z');
    const app = await boot();
    await app.orchestrator.schedules.upsert('half', { workflow: hourly, cron: '*/30 * * * *', overlap });
    await setClock('2026-12-01T13:00:00.000Z');
    await untilBeyond(app, 'half', '2026-12-01T13:00');
    const [first] = (await app.orchestrator.list({ status: ['pending', 'running', 'waiting'] })).items;
    await until('it is parked', async () => (await app.orchestrator.get(first!.id)).status === 'waiting');
    return { app, first: first!.id };
  }

  it('skip: the tick starts nothing', async () => {
    const { app } = await fired('skip');

    await setClock('2026-12-01T13:30:00.000Z');
    await untilBeyond(app, 'half', '2026-12-01T13:30');
    const triggered = await app.orchestrator.schedules.trigger('half');

    expect(await ticksStarted(app, 'half')).toEqual(['2026-12-01T13:00:00.000Z']);
    expect(triggered.started).toBe(false);
    expect(triggered.id).toBe((await app.orchestrator.schedules.get('half')).lastRunId);
  });

  it('allow: it starts beside it', async () => {
    const { app, first } = await fired('allow');

    await setClock('2026-12-01T13:30:00.000Z');
    await untilBeyond(app, 'half', '2026-12-01T13:30');

    expect(await ticksStarted(app, 'half')).toHaveLength(2);
    expect((await app.orchestrator.get(first)).finishedAt).toBeUndefined();
  });

  it('cancel: it starts, and the one before is cancelled', async () => {
    const { app, first } = await fired('cancel');

    await setClock('2026-12-01T13:30:00.000Z');
    await untilBeyond(app, 'half', '2026-12-01T13:30');

    await until('it is cancelled', async () => (await app.orchestrator.get(first)).status === 'cancelled');
    const { lastRunId } = await app.orchestrator.schedules.get('half');
    expect(lastRunId).not.toBe(first);
    expect((await app.orchestrator.get(lastRunId!)).finishedAt).toBeUndefined();
  });

  it('buffer: one tick waits for its end and begins then, further ones are skipped', async () => {
    const { app, first } = await fired('buffer');
    const { orchestrator } = app;
    await client.query(`update orchestration.run set wake_at = '2026-12-01T15:10Z' where id = $1`, [first]);

    await setClock('2026-12-01T14:35:00.000Z');
    await untilBeyond(app, 'half', '2026-12-01T14:35');
    const { lastRunId: second } = await orchestrator.schedules.get('half');
    const buffered = await orchestrator.get(second!);
    await orchestrator.cancel(first);
    await until('it has begun', async () => (await orchestrator.get(second!)).startedAt !== undefined);

    expect(await ticksStarted(app, 'half')).toHaveLength(2);
    expect(buffered).toMatchObject({
      status: 'waiting',
      startedAt: undefined,
      waitingFor: [{ kind: 'child', name: first }],
    });
    await until('it is parked', async () => (await orchestrator.get(second!)).status === 'waiting');
    expect((await orchestrator.get(second!)).waitingFor).toMatchObject([{ kind: 'timer' }]);
  });

  it.each(['the end', 'the tick'] as const)(
    'buffer: %s comes first when both come at once, and the run begins',
    async (winner) => {
      const { app, first } = await fired('buffer');
      const { orchestrator } = app;
      const held = await HeldRows.hold(database, first);
      const end = () => orchestrator.cancel(first, { mode: 'terminate' });
      const fire = () => orchestrator.schedules.trigger('half');

      const [one, other] = winner === 'the end' ? [end, fire] : [fire, end];
      const doing: Promise<unknown>[] = [one()];
      await held.untilWaiting(1);
      doing.push(other());
      await held.untilWaiting(2);
      await held.release();
      await Promise.all(doing);

      const { lastRunId } = await orchestrator.schedules.get('half');
      expect(lastRunId).not.toBe(first);
      await until('it has begun', async () => (await orchestrator.get(lastRunId!)).startedAt !== undefined);
    },
  );

  it('missed ticks that are all made up for run one after the other', async () => {
    await setClock('2026-12-01T12:30:00.000Z');
    const first = await boot();
    await first.orchestrator.schedules.upsert('hours', { workflow: hourly, cron: '0 * * * *', missed: 'all' });
    await first.crash();
    await setClock('2026-12-01T15:20:00.000Z');

    const app = await boot();
    await untilBeyond(app, 'hours', '2026-12-01T15:20');
    const states = async () =>
      (await app.orchestrator.list({ workflow: 'hourly' })).items
        .map(({ status, startedAt }) => (startedAt ? 'begun' : status))
        .reverse();
    await until('the first has begun', async () => (await states())[0] === 'begun');
    const atFirst = await states();
    await setClock('2026-12-01T16:25:00.000Z');
    await untilBeyond(app, 'hours', '2026-12-01T16:25');
    await until('the second has begun', async () => (await states())[1] === 'begun');

    expect(atFirst).toEqual(['begun', 'waiting', 'waiting']);
    expect(await states()).toEqual(['begun', 'begun', 'waiting', 'waiting']);
  });
});

describe('Workers', () => {
  it('66. that are killed, one of four processes after the other, neither lose a tick nor start one twice', async () => {
    const off = await boot({ worker: false });
    const setup = { database, isOpen: true, options: { worker: { lease: '1s', pollInterval: '200ms' } } } as const;
    const workers = await Promise.all([0, 1, 2, 3].map(() => WorkerProcess.start(setup)));
    await off.orchestrator.schedules.upsert('each', {
      workflow: 'quick',
      every: '1s',
      overlap: 'allow',
      missed: 'all',
    });
    const ticks = () => ticksStarted(off, 'each');

    for (const [index, worker] of workers.slice(1).entries()) {
      await until('there is one more', async () => (await ticks()).length > index);
      await worker.kill();
    }
    const atLastKill = (await ticks()).length;
    await until('the last one goes on', async () => (await ticks()).length > atLastKill + 1);

    const times = (await ticks()).map((tick) => Date.parse(tick));
    expect(times).toEqual(times.map((_, index) => times[0]! + index * SECOND_MS));
    const { items } = await off.orchestrator.list({ limit: 1_000 });
    expect(items).toHaveLength(times.length);
  });

  it('that die in the middle of it lose no tick: the next one fires it', async () => {
    await setClock('2026-12-01T12:59:00.000Z');
    const doomed = await boot();
    await doomed.orchestrator.schedules.upsert('hours', { workflow: quick, cron: '0 * * * *' });
    // The insert of its run waits for a key that somebody holds, while the schedule's row is locked.
    await client.query('begin');
    await client.query(
      `insert into orchestration.run (id, workflow, version, key, status, queue, input_digest, root_id, depth, created_at)
       values (gen_random_uuid(), 'quick', 1, 'schedule:hours:2026-12-01T13:00:00.000Z', 'pending', 'default', '', gen_random_uuid(), 1, now())`,
    );
    await setClock('2026-12-01T13:00:00.000Z');
    const observer = new pg.Client({ connectionString: database.url });
    await observer.connect();
    await until('it waits for the key', async () => {
      const { rows } = await observer.query(
        `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
      );
      return rows.length > 0;
    });
    await observer.end();
    await doomed.crash();
    await client.query('rollback');

    const app = await boot();
    await untilBeyond(app, 'hours', '2026-12-01T13:00');

    expect(await ticksStarted(app, 'hours')).toEqual(['2026-12-01T13:00:00.000Z']);
  });

  it('do not start the run of a tick a second time when the schedule is set back', async () => {
    await setClock('2026-12-01T12:59:00.000Z');
    const app = await boot();
    await app.orchestrator.schedules.upsert('hours', { workflow: quick, cron: '0 * * * *', overlap: 'allow' });
    await setClock('2026-12-01T13:00:00.000Z');
    await untilBeyond(app, 'hours', '2026-12-01T13:00');
    const { lastRunId } = await app.orchestrator.schedules.get('hours');

    await client.query(
      `update orchestration.schedule set next_tick = '2026-12-01T13:00Z', due_at = '2026-12-01T13:00Z'`,
    );
    await untilBeyond(app, 'hours', '2026-12-01T13:00');

    expect(await ticksStarted(app, 'hours')).toHaveLength(1);
    expect((await app.orchestrator.schedules.get('hours')).lastRunId).toBe(lastRunId);
  });

  it('fire in time by a timer of their own, not by the regular look alone', async () => {
    // By looks alone, half of the ticks would be a second late or more.
    const app = await boot({ worker: { pollInterval: '2s' } });
    await app.orchestrator.schedules.upsert('each', { workflow: quick, every: '1s', overlap: 'allow' });
    await until('it has fired a few times', async () => (await ticksStarted(app, 'each')).length >= 5);

    const { rows } = await client.query<{ late: number }>(
      `select extract(epoch from created_at - substring(key from '.{24}$')::timestamptz)::float8 as late from orchestration.run order by id offset 2`,
    );

    const median = rows.map(({ late }) => late).toSorted((one, other) => one - other)[1]!;
    expect(median).toBeLessThan(0.5);
  });

  it('leave alone a schedule that they cannot read, say so, and fire the others', async () => {
    const said: string[] = [];
    const silent = () => {};
    const logger = {
      log: silent,
      error: silent,
      warn: (message: string) => said.push(message),
      debug: silent,
      verbose: silent,
    };
    await setClock('2026-12-01T12:30:00.000Z');
    const app = await boot({}, { logger });
    const { schedules } = app.orchestrator;
    await schedules.upsert('strange', { workflow: quick, cron: '0 * * * *' });
    await schedules.upsert('sound', { workflow: quick, cron: '0 * * * *' });
    await client.query(`update orchestration.schedule set time_zone = 'Mars/Olympus' where id = 'strange'`);

    await setClock('2026-12-01T13:00:00.000Z');
    await untilBeyond(app, 'sound', '2026-12-01T13:00');

    expect(await ticksStarted(app, 'sound')).toHaveLength(1);
    expect(said.filter((message) => message.includes("Schedule 'strange' cannot be read here"))).toHaveLength(1);
    await client.query(`update orchestration.schedule set time_zone = 'UTC' where id = 'strange'`);
    await setClock('2026-12-01T13:02:00.000Z');
    await until('it has fired', async () => (await ticksStarted(app, 'strange')).length === 1);
  });

  it('are needed: a process without one fires nothing, and no worker for the workflow leaves the run pending', async () => {
    await setClock('2026-12-01T12:30:00.000Z');
    const both = await boot();
    const off = await boot({ worker: false });
    await off.orchestrator.schedules.upsert('hours', { workflow: quick, cron: '0 * * * *' });
    await both.close();
    await setClock('2026-12-01T13:00:00.000Z');
    const unfired = await ticksStarted(off, 'hours');

    await boot({}, { providers: [hourly] });
    await untilBeyond(off, 'hours', '2026-12-01T13:00');

    expect(unfired).toEqual([]);
    expect((await off.orchestrator.list()).items).toMatchObject([{ workflow: 'quick', version: 1, status: 'pending' }]);
  });

  it('start the highest version that a live worker registers', async () => {
    const second = workflow({ name: 'quick', version: 2 }, () => 'second');
    const first = await boot(slow);
    await first.orchestrator.schedules.upsert('once', { workflow: quick, every: '30d' });
    await boot({}, { providers: [second] });

    const handle = await first.orchestrator.schedules.trigger('once');

    expect(await handle.result()).toBe('second');
  });
});

describe('A declared schedule', () => {
  const declared = (schedules: DeclaredSchedule[], version = 1) =>
    workflow(
      { name: 'declared', version, queue: 'reports', timeout: '2h', schedules },
      (_tools, input: unknown) => input,
    );
  const nightly: DeclaredSchedule = { cron: '0 2 * * *', timeZone: 'Europe/Oslo', input: 'nightly' };

  it('is made at boot by whichever process comes first, once, and keeps its place and its pause', async () => {
    await setClock('2026-12-01T12:00:00.000Z');
    const apps = await Promise.all([0, 1, 2, 3].map(() => boot({}, { providers: [declared([nightly])] })));
    const { schedules } = apps[0]!.orchestrator;
    const { items } = await schedules.list();
    await schedules.pause('declared');

    await boot({}, { providers: [declared([nightly])] });

    expect(items).toMatchObject([
      { id: 'declared', workflow: 'declared', declared: true, nextRunAt: new Date('2026-12-02T01:00:00Z') },
    ]);
    expect(await schedules.get('declared')).toMatchObject({ input: 'nightly', paused: true });
    const handle = await schedules.trigger('declared');
    expect(await handle.result()).toBe('nightly');
    expect(await apps[1]!.orchestrator.get(handle.id)).toMatchObject({ queue: 'reports' });
  });

  it('that is gone from the code is deleted at boot, and no other one', async () => {
    const before = await boot({}, { providers: [declared([nightly, { id: 'second', every: '1h' }]), quick] });
    const { schedules } = before.orchestrator;
    await schedules.upsert('by hand', { workflow: 'declared', every: '1h' });
    const ids = async () => (await schedules.list()).items.map(({ id }) => id);
    const atFirst = await ids();

    await boot({}, { providers: [quick] });
    const withoutTheWorkflow = await ids();
    await boot({}, { providers: [declared([nightly], 2), declared([{ id: 'old', every: '1h' }])] });

    expect(atFirst).toEqual(['by hand', 'declared', 'second']);
    expect(withoutTheWorkflow).toEqual(atFirst);
    expect(await ids()).toEqual(['by hand', 'declared']);
  });

  it('needs an id of its own beside another one', async () => {
    const booting = boot({}, { providers: [declared([nightly, { every: '1h' }])] });

    await expect(booting).rejects.toThrow("two schedules have the id 'declared'");
  });
});
