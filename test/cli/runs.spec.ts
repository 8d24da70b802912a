import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { v7 as uuid } from 'uuid';

import {
  AesGcmPayloadCodec,
  embeddedPostgres,
  type Page,
  type RunDetails,
  type RunSummary,
  type RunTree,
  stopEmbeddedPostgres,
} from '../../lib/index.js';
import { closeApps, startApp, type TestApp } from '../support/app.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { until } from '../support/until.js';
import { BIN, command, type Finished } from './command.js';
import { Charge, Order, Parcel, Refund, WORKFLOWS } from './shop.js';

let database: TestDatabase;
let app: TestApp;

beforeAll(async () => {
  database = await createTestDatabase();
  app = await startApp({ database, providers: WORKFLOWS });
});

afterAll(async () => {
  await closeApps();
  await database.drop();
});

const cli = (...args: string[]): Promise<Finished> => command({ args: ['--url', database.url, ...args] });

async function startedOrder(key: string): Promise<string> {
  const { id } = await app.orchestrator.start(Order, { id: key, total: 42 }, { key, tenant: 'acme' });
  await until('the order waits', async () => (await app.orchestrator.get(id)).status === 'waiting');
  return id;
}

async function asked(type: string): Promise<string> {
  const { id } = await app.orchestrator.start(Refund, type);
  await until('it asks', async () => (await app.orchestrator.get(id)).status === 'waiting');
  return id;
}

async function failedCharge(): Promise<string> {
  const run = await app.orchestrator.start(Charge, -1);
  await expect(run.result()).rejects.toThrow('cannot charge -1');
  return run.id;
}

describe('list', () => {
  it('shows runs newest first, as a table or as JSON, by every filter', async () => {
    const order = await startedOrder('list-1');
    const failed = await failedCharge();

    const all = await cli('list', '--limit', '3', '--json');
    const failures = await cli('list', '--status', 'failed', '--workflow', 'charge@1', '--after', '1h', '--json');
    const children = await cli('list', '--parent', 'order/list-1', '--json');
    const text = await cli('list', '--tenant', 'acme', '--roots', '--search', 'list-1');

    expect((all.json() as Page<RunSummary>).items[0]).toMatchObject({ id: failed, status: 'failed' });
    expect((failures.json() as Page<RunSummary>).items.map(({ id }) => id)).toEqual([failed]);
    expect((children.json() as Page<RunSummary>).items).toEqual([
      expect.objectContaining({ parentId: order, ref: 'parcel' }),
    ]);
    expect(text.stdout).toMatch(/^ID +WORKFLOW +STATUS +KEY +TENANT +CREATED +PROGRESS\n/);
    expect(text.stdout).toMatch(
      new RegExp(`^${order} +order@1 +waiting +list-1 +acme +\\S+ ago +signal approve, (1h 59m|2h) left`, 'm'),
    );
    expect(all.stderr + text.stderr).toBe('');
  });

  it('goes on with the next page where the one before says', async () => {
    await failedCharge();
    await failedCharge();

    const first = await cli('list', '--workflow', 'charge', '--limit', '1');
    const cursor = /--cursor (\S+)/.exec(first.stderr)![1]!;
    const second = await cli('list', '--workflow', 'charge', '--limit', '1', '--cursor', cursor, '--json');

    expect(first.stdout).toContain(cursor);
    expect((second.json() as Page<RunSummary>).items.map(({ id }) => id < cursor)).toEqual([true]);
  });

  it('fits in a terminal of 80 columns, with ids that are enough to go on with', async () => {
    const order = await startedOrder('a-key-that-is-rather-long-for-a-terminal-of-eighty-columns');

    const { stdout } = await command({ args: ['list', '--url', database.url], env: { COLUMNS: '80' } });

    const lines = stdout.split('\n');
    const line = lines.find((one) => order.startsWith(one.split(' ')[0]!))!;
    const tree = await cli('tree', line.split(' ')[0]!, '--json');
    expect(Math.max(...lines.map((one) => one.length))).toBeLessThanOrEqual(80);
    expect(line).toContain('…');
    expect((tree.json() as RunTree).id).toBe(order);
  });

  it('says that there is nothing, and refuses what no filter is', async () => {
    const none = await cli('list', '--workflow', 'nothing');
    const wrong = [
      await cli('list', '--status', 'lost'),
      await cli('list', '--after', 'noon'),
      await cli('list', '--limit', '5000'),
    ];

    expect(none).toMatchObject({ stdout: 'No runs.\n', exitCode: 0 });
    expect(wrong.map(({ exitCode }) => exitCode)).toEqual([2, 2, 2]);
    expect(wrong[0]!.stderr).toContain('A status is one of pending, running');
    expect(wrong[2]!.stderr).toContain('must be 1 to 1000, not 5000');
  });
});

describe('inspect', () => {
  it('shows a run with payloads, waits and history', async () => {
    const id = await startedOrder('inspect-1');

    const text = await cli('inspect', 'order/inspect-1');
    const { run, history } = (await cli('inspect', id, '--json')).json() as { run: RunDetails; history: object[] };

    expect(text.stdout).toMatch(/^waits for +signal approve, (1h 59m|2h) left$/m);
    expect(text.stdout).toMatch(/^input +{ id: 'inspect-1', total: 42 }$/m);
    expect(text.stdout).toMatch(/^state +{ charged: 42 }$/m);
    expect(text.stdout).toMatch(/^ *1 +step +charge +completed .* 'receipt of inspect-1'$/m);
    expect(run).toMatchObject({
      id,
      input: { id: 'inspect-1', total: 42 },
      createdAt: expect.stringMatching(/^\d{4}-.*Z$/),
    });
    expect(history).toHaveLength(2);
  });

  it('shows why a run failed, with the causes', async () => {
    const { stdout } = await cli('inspect', await failedCharge());

    expect(stdout).toMatch(
      /^error +StepFailedError: .*\n +caused by NonRetryableError: cannot charge -1\n +caused by Error: a negative amount$/m,
    );
  });
});

describe('Ids', () => {
  it('may be shortened as long as they are the beginning of one id', async () => {
    const [one, other] = [await startedOrder('ids-1'), await startedOrder('ids-2')];
    const others = (await app.orchestrator.list({ limit: 1_000 })).items.map(({ id }) => id).filter((id) => id !== one);
    // Their children are of the same moment.
    const isUnique = (length: number) => !others.some((id) => id.startsWith(one.slice(0, length)));
    const shortest = Array.from(one, (_, index) => index).find(isUnique)!;
    const common = Array.from(one, (_, index) => index).find((index) => one[index] !== other[index])!;

    const unique = await cli('inspect', one.slice(0, shortest).toUpperCase(), '--json');
    const ambiguous = await cli('inspect', one.slice(0, common));
    const unknown = await cli('inspect', 'ffffffff');
    const noId = await cli('inspect', 'something');

    expect((unique.json() as { run: RunDetails }).run.id).toBe(one);
    expect(ambiguous).toMatchObject({ exitCode: 2, stdout: '' });
    const candidates = ambiguous.stderr.match(/^ {2}[0-9a-f-]{36}$/gm)!.map((line) => line.trim());
    expect(candidates.length).toBeGreaterThan(1);
    expect(candidates.filter((id) => !id.startsWith(one.slice(0, common)))).toEqual([]);
    expect(unknown).toMatchObject({ exitCode: 4, stderr: expect.stringContaining("There is no run 'ffffffff'") });
    expect(noId).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('workflow/key') });
  });
});

describe('tree', () => {
  it('draws a family, from the run or from its root', async () => {
    const id = await startedOrder('tree-1');
    const [child] = (await app.orchestrator.listChildren(id)).items;

    const text = await cli('tree', id);
    const fromChild = await cli('tree', child!.id, '--json');
    const family = await cli('tree', child!.id, '--family', '--json');

    expect(text.stdout).toMatch(
      /^order waiting began .* ago {2}\S+\n└─ parcel \(parcel\) "the blue one" waiting began .*\n$/,
    );
    expect(fromChild.json() as RunTree).toMatchObject({ id: child!.id, children: [] });
    expect(family.json() as RunTree).toMatchObject({ id, children: [{ id: child!.id }] });
  });
});

describe('run', () => {
  it('starts a run, waits for it, and prints what it returns', async () => {
    const started = await cli(
      'run',
      'charge',
      '--input',
      '7',
      '--key',
      'run-1',
      '--attribute',
      'city=Oslo',
      '--attribute',
      'vip=true',
      '--json',
    );
    const again = await cli('run', 'charge', '--input', '7', '--key', 'run-1', '--wait');
    const fromStdin = await command({
      args: ['run', 'charge', '--input', '-', '--wait', '--json', '--url', database.url],
      stdin: '8\n',
    });

    const { id } = started.json() as { id: string };
    expect(started.json()).toEqual({ id, started: true });
    expect(again).toMatchObject({ stdout: '7\n', exitCode: 0 });
    expect(fromStdin.json()).toMatchObject({ status: 'completed', output: 8 });
    expect((await app.orchestrator.get(id)).attributes).toEqual({ city: 'Oslo', vip: true });
  });

  it('ends with a code that says how it went', async () => {
    const failed = await cli('run', 'charge', '--input', '-1', '--wait');
    const failedJson = await cli('run', 'charge', '--input', '-1', '--wait', '--json');
    const late = await cli('run', 'refund', '--input', '"text"', '--wait', '--wait-timeout', '50ms');
    const unknown = await cli('run', 'chargee');
    const noJson = await cli('run', 'charge', '--input', '{');
    await cli('run', 'charge', '--input', '1', '--key', 'taken');
    const conflict = await cli('run', 'charge', '--input', '2', '--key', 'taken');

    expect(failed).toMatchObject({ stdout: '', exitCode: 1, stderr: expect.stringContaining('cannot charge -1') });
    expect(failedJson.json()).toMatchObject({ status: 'failed', error: { name: 'StepFailedError' } });
    expect(late.exitCode).toBe(6);
    expect(unknown).toMatchObject({ exitCode: 4, stderr: expect.stringContaining("Did you mean 'charge'?") });
    expect(noJson).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('must be JSON') });
    expect(conflict.exitCode).toBe(5);
  });
});

describe('cancel, retry and signal', () => {
  it('change runs, and say so', async () => {
    const id = await startedOrder('change-1');
    const signalled = await cli('signal', 'order/change-1', 'approve', '--payload', '{"by":"Ada"}');
    const output = await app.orchestrator.result(id);
    const late = await cli('signal', id, 'approve');

    const other = await startedOrder('change-2');
    const cancelled = await cli('cancel', 'order/change-2', '--reason', 'not wanted', '--json');
    await expect(app.orchestrator.result(other)).rejects.toThrow('not wanted');
    const again = await cli('cancel', other);
    const retried = await cli('retry', other);
    const running = await cli('retry', other);

    expect(signalled).toMatchObject({ exitCode: 0, stdout: `${id}: has 'approve'\n` });
    expect(output).toEqual({ paid: 42, by: { by: 'Ada' } });
    expect(late).toMatchObject({ exitCode: 5, stderr: expect.stringContaining('takes no signal any more') });
    expect(cancelled.json()).toEqual([{ id: other, cancelled: 0, requested: 2 }]);
    expect(again.stdout).toContain('had ended');
    expect(retried).toMatchObject({ exitCode: 0, stdout: `${other}: goes on\n` });
    expect(running.exitCode).toBe(5);
  });
});

describe('pending and input', () => {
  it('show what is asked, and answer it in the form that it has', async () => {
    const ids = await Promise.all(['approval', 'choice', 'text', 'form'].map(asked));
    const [approval, choice, note, form] = ids as [string, string, string, string];

    const text = await cli('pending', '--workflow', 'refund');
    const soon = await cli('pending', '--expiring-within', '15m', '--json');
    const wrong = [
      await cli('input', approval, 'refund', 'perhaps'),
      await cli('input', choice, 'how', 'stamps'),
      await cli('input', form, 'form', '{"count":"two"}'),
      await cli('input', note, 'reason', 'x'),
    ];
    await cli('input', approval, 'refund', 'yes');
    await cli('input', choice, 'how', 'card');
    await cli('input', note, 'why', '--', '-5 stars');
    await cli('input', form, 'form', '{"count":2}');

    expect(text.stdout).toMatch(/refund +approval +Refund order 4711\?/);
    expect(text.stdout).toContain('cash | card');
    expect((soon.json() as Page<{ runId: string }>).items.map(({ runId }) => runId)).toContain(note);
    expect(wrong.map(({ exitCode }) => exitCode)).toEqual([2, 2, 2, 5]);
    expect(await Promise.all(ids.map((id) => app.orchestrator.result(id)))).toEqual([
      true,
      'card',
      '-5 stars',
      { count: 2 },
    ]);
  });
});

describe('queues', () => {
  it('are listed, paused, configured and reset', async () => {
    const paused = await cli('queues', 'pause', 'emails');
    const configured = await cli('queues', 'configure', 'emails', '--concurrency', '5', '--rate-limit', '100/1s');
    const listed = await cli('queues');
    const json = await cli('queues', 'list', '--json');
    await cli('queues', 'resume', 'emails');
    await cli('queues', 'reset', 'emails');
    const nothing = await cli('queues', 'configure', 'emails');

    expect([paused.stdout, configured.stdout]).toEqual(['emails: is paused\n', 'emails: 5 at a time, 100 per 1s\n']);
    expect(listed.stdout).toMatch(/^emails +paused +0 +0 +5 at a time, 100 per 1s$/m);
    expect(json.json()).toContainEqual(expect.objectContaining({ name: 'emails', paused: true }));
    expect(await app.orchestrator.queues.list()).not.toContainEqual(expect.objectContaining({ name: 'emails' }));
    expect(nothing.exitCode).toBe(2);
  });
});

describe('schedules', () => {
  it('are listed, shown, paused, triggered and deleted', async () => {
    await app.orchestrator.schedules.upsert('nightly', {
      workflow: Charge,
      input: 3,
      cron: '0 3 * * *',
      timeZone: 'Europe/Oslo',
    });

    const listed = await cli('schedules');
    const shown = await cli('schedules', 'get', 'nightly');
    const paused = await cli('schedules', 'pause', 'nightly');
    const triggered = await cli('schedules', 'trigger', 'nightly', '--json');
    const json = await cli('schedules', 'get', 'nightly', '--json');
    const deleted = await cli('schedules', 'delete', 'nightly');
    const unknown = await cli('schedules', 'resume', 'nightly');

    const { id } = triggered.json() as { id: string };
    expect(listed.stdout).toMatch(/^nightly +charge +0 3 \* \* \* \(Europe\/Oslo\) +skip +never +in /m);
    expect(shown.stdout).toMatch(/^input +3$/m);
    expect([paused.stdout, deleted.stdout]).toEqual(['nightly: is paused\n', 'nightly: is deleted\n']);
    expect(json.json()).toMatchObject({ paused: true, lastRunId: id, timeZone: 'Europe/Oslo' });
    expect(await app.orchestrator.result(id)).toBe(3);
    expect(unknown.exitCode).toBe(4);
  });
});

describe('What a command changes', () => {
  it('is told to scripts by --json, and to people by a line: runs', async () => {
    const [failed, order] = [await failedCharge(), await startedOrder('told-1')];
    const [approval, other, text] = [await asked('approval'), await asked('approval'), await asked('text')];

    const retried = await cli('retry', failed, '--json');
    const signalled = await cli('signal', order, 'approve', '--json');
    const answered = await cli('input', approval, 'refund', 'no', '--json');
    const answeredText = await cli('input', text, 'why', 'because');
    const cancelled = await cli('cancel', other);
    const run = await cli('run', 'charge', '--input', '5');

    expect(retried.json()).toEqual([{ id: failed }]);
    expect(signalled.json()).toEqual({ id: order, signal: 'approve' });
    expect(answered.json()).toEqual({ id: approval, input: 'refund', value: false });
    expect(answeredText.stdout).toBe(`${text}: 'why' is answered\n`);
    expect(cancelled.stdout).toMatch(new RegExp(`^${other}: 1 run (cancelled|unwinding)\n$`));
    expect(await app.orchestrator.result(run.stdout.trim())).toBe(5);
  });

  it('is told to scripts by --json, and to people by a line: queues', async () => {
    const configured = await cli('queues', 'configure', 'told', '--concurrency-per-tenant', '2', '--json');
    const paused = await cli('queues', 'pause', 'told', '--json');
    const resumed = await cli('queues', 'resume', 'told');
    const reset = await cli('queues', 'reset', 'told');

    expect(configured.json()).toEqual({ name: 'told', limits: { concurrencyPerTenant: 2 } });
    expect(paused.json()).toEqual({ name: 'told' });
    expect(resumed.stdout).toBe('told: is claimed from\n');
    expect(reset.stdout).toBe('told: has the limits of the configuration\n');
  });

  it('is told to scripts by --json, and to people by a line: schedules', async () => {
    const { schedules } = app.orchestrator;
    await schedules.upsert('told', { workflow: Charge, input: 4, every: '1d' });

    const listed = await cli('schedules', '--json');
    const paused = await cli('schedules', 'pause', 'told', '--json');
    const resumed = await cli('schedules', 'resume', 'told');
    const triggered = await cli('schedules', 'trigger', 'told');

    expect((listed.json() as Page<object>).items).toContainEqual(
      expect.objectContaining({ id: 'told', workflow: 'charge' }),
    );
    expect(paused.json()).toEqual({ id: 'told' });
    expect(resumed.stdout).toBe('told: starts runs again\n');
    expect(await schedules.get('told')).toMatchObject({ paused: false });
    expect(await app.orchestrator.result(triggered.stdout.trim())).toBe(4);
    await schedules.delete('told');
  });

  it('is what each of its options says', async () => {
    const run = (
      await cli(
        ...['run', 'parcel', '--input', '{"weight":1}', '--key', 'options-1', '--queue', 'nowhere', '--priority', '7'],
        ...['--delay', '1h', '--timeout', '2h', '--tenant', 'acme', '--label', 'a parcel', '--json'],
      )
    ).json() as { id: string };
    const kept = await cli('run', 'parcel', '--input', '{"weight":1}', '--key', 'options-1');
    const refused = await cli(
      ...['run', 'parcel', '--input', '{"weight":1}', '--key', 'options-1', '--on-conflict', 'reject'],
    );
    const order = await startedOrder('options-2');
    const [parcel] = (await app.orchestrator.listChildren(order)).items;
    for (const _ of ['once', 'again']) await cli('signal', order, 'delivered', '--payload', '1', '--id', 'a', '--tree');
    const delivered = await app.orchestrator.result(parcel!.id);
    const ended = await cli('cancel', order, '--terminate', '--json');

    const started = await app.orchestrator.get(run.id);
    expect(started).toMatchObject({
      ...{ status: 'pending', key: 'options-1', queue: 'nowhere', priority: 7, tenant: 'acme', label: 'a parcel' },
      input: { weight: 1 },
    });
    expect(started.wakeAt!.getTime() - started.createdAt.getTime()).toBe(3_600_000);
    expect(kept).toMatchObject({ stdout: `${run.id}\n`, stderr: expect.stringContaining('nothing was started') });
    expect(refused.exitCode).toBe(5);
    expect(delivered).toBe(1);
    expect(ended.json()).toEqual([{ id: order, cancelled: 1, requested: 0 }]);
    await app.orchestrator.cancel(run.id);
  });
});

describe('Encrypted payloads', () => {
  const codec = new AesGcmPayloadCodec({ keys: [{ id: '2026', key: Buffer.alloc(32, 7) }] });
  const schema = 'secret';
  let secretive: TestApp;

  beforeAll(async () => {
    secretive = await startApp({
      database,
      providers: [Order, Parcel, Charge],
      options: { schema, payload: { codec } },
    });
  });

  it('are shown as what they are, and not added to in plain', async () => {
    const { id } = await secretive.orchestrator.start(Order, { id: '4711', total: 42 }, { key: 'secret-1' });
    await until('it waits', async () => (await secretive.orchestrator.get(id)).status === 'waiting');

    const text = await cli('inspect', id, '--schema', schema);
    const json = await cli('inspect', id, '--schema', schema, '--json');
    const refused = [
      await cli('run', 'charge', '--input', '5', '--schema', schema),
      await cli('signal', id, 'approve', '--payload', '"Ada"', '--schema', schema),
    ];
    const plain = await cli('run', 'charge', '--input', '5', '--schema', schema, '--plain', '--wait', '--json');
    const empty = await cli('signal', id, 'approve', '--schema', schema);

    expect(text.stdout).toMatch(/^input +\(encrypted\)$/m);
    expect(text.stdout).toMatch(/^state +\(encrypted\)$/m);
    expect(text.stdout).toMatch(/charge .*\(encrypted\)$/m);
    expect(json.json()).toMatchObject({ run: { input: { unreadable: expect.stringContaining('codec') } } });
    expect(refused.map(({ exitCode }) => exitCode)).toEqual([5, 5]);
    expect(refused[0]!.stderr).toContain('--plain');
    expect(plain).toMatchObject({ exitCode: 0 });
    expect(plain.json()).toMatchObject({ status: 'completed', output: { unreadable: expect.anything() } });
    expect(empty.exitCode).toBe(0);
    expect(await secretive.orchestrator.result(id)).toEqual({ paid: 42, by: undefined });
  });
});

describe('migrate', () => {
  it('makes the tables, tells whether they are behind, and is asked for where they are', async () => {
    const behind = await cli('migrate', '--check', '--schema', 'fresh');
    const refused = await cli('list', '--schema', 'fresh');
    const made = await cli('migrate', '--schema', 'other');
    const done = await cli('migrate', '--schema', 'fresh', '--json');
    const again = await cli('migrate', '--schema', 'fresh');
    const fine = await cli('migrate', '--check', '--schema', 'fresh', '--json');

    expect(behind).toMatchObject({ exitCode: 1, stdout: expect.stringContaining('is behind: CreateTables') });
    expect(refused).toMatchObject({ exitCode: 3, stderr: expect.stringContaining('npx orchestration migrate') });
    expect(made.stdout).toMatch(/^The schema "other" has now CreateTables\d+\.\n$/);
    expect(done.json()).toEqual({ schema: 'fresh', done: [expect.stringMatching(/^CreateTables/)] });
    expect(again.stdout).toBe('The schema "fresh" was up to date.\n');
    expect(fine).toMatchObject({ exitCode: 0 });
    expect(fine.json()).toEqual({ schema: 'fresh', pending: [] });
  });
});

describe('The database', () => {
  let folder: string;

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'orchestration-cli-'));
    chmodSync(folder, 0o755);
  });
  afterEach(async () => {
    await stopEmbeddedPostgres({ dir: join(folder, '.orchestration') });
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('is that of --url, else DATABASE_URL, else the embedded one of the folder, which is never made', async () => {
    const nothing = await command({ args: ['migrate', '--check'], cwd: folder });
    const fromEnvironment = await command({ args: ['list'], env: { DATABASE_URL: database.url }, cwd: folder });
    const { port } = await embeddedPostgres({ dir: join(folder, '.orchestration'), ephemeral: true });
    const embedded = await command({ args: ['migrate', '--json'], cwd: folder });
    const production = await command({ args: ['list'], cwd: folder, env: { NODE_ENV: 'production' } });

    expect(nothing).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('--url') });
    expect(fromEnvironment.exitCode).toBe(0);
    expect(port).toBeGreaterThan(0);
    expect(embedded.json()).toMatchObject({ done: [expect.stringMatching(/^CreateTables/)] });
    expect(production.exitCode).toBe(2);
  });

  it('is named without its password, whatever is wrong with it', async () => {
    const away = await command({ args: ['list', '--url', 'postgres://ada:s3cret@127.0.0.1:1/shop'] });
    const other = await command({ args: ['list', '--url', 'mysql://ada:s3cret@127.0.0.1/shop'] });
    const mistyped = await cli('list', '--ulr=postgres://ada:s3cret@127.0.0.1/shop');

    expect([away, other, mistyped].map(({ exitCode }) => exitCode)).toEqual([3, 2, 2]);
    expect(away.stderr).toContain('127.0.0.1:1/shop');
    for (const { stderr, stdout } of [away, other, mistyped]) expect(stderr + stdout).not.toContain('s3cret');
  });
});

describe('The program', () => {
  it('explains itself, and what it does not know', async () => {
    const help = await command({ args: ['--help'] });
    const version = await command({ args: ['--version'] });
    const unknown = await command({ args: ['lst'] });

    expect(help).toMatchObject({ exitCode: 0, stderr: '', stdout: expect.stringContaining('Exit codes:') });
    expect(version.stdout).toMatch(/^\d+\.\d+\.\d+/);
    expect(unknown).toMatchObject({ exitCode: 2, stdout: '', stderr: expect.stringContaining('Did you mean list?') });
  });

  it('has every command and option in its document', async () => {
    const document = readFileSync(new URL('../../docs/cli.md', import.meta.url), 'utf8');
    const { stdout } = await command({ args: ['--help'] });
    const verbs = [...stdout.matchAll(/^ {2}([a-z]+) /gm)].map(([, verb]) => verb!).filter((verb) => verb !== 'help');
    const helps = await Promise.all(verbs.map((verb) => command({ args: [verb, '--help'] })));
    const options = helps.flatMap((help) =>
      [...help.stdout.matchAll(/^ {2}(?:-\w, )?(--[a-z-]+)/gm)].map(([, option]) => option!),
    );

    expect(verbs).toHaveLength(16);
    expect(verbs.filter((verb) => !document.includes(`\n### ${verb}\n`))).toEqual([]);
    expect(
      [...new Set(options)].filter((option) => !document.includes(option) && !['--help', '--version'].includes(option)),
    ).toEqual([]);
  });

  it('ends in silence when nobody reads any more, and colours nothing but a terminal', async () => {
    const { orchestrator } = app;
    await orchestrator.startMany(
      Charge,
      Array.from({ length: 1_000 }, (_, index) => ({ input: index, key: `pipe-${index}`, label: uuid() })),
    );

    const piped = spawnSync(
      '/bin/bash',
      [
        '-c',
        `set -o pipefail; "$0" "$1" list --limit 1000 --json --url "$2" | head -1`,
        process.execPath,
        BIN,
        database.url,
      ],
      { encoding: 'utf8' },
    );
    const coloured = spawnSync(
      'script',
      ['-qec', `"${process.execPath}" "${BIN}" list --limit 2 --url "${database.url}"`, '/dev/null'],
      {
        encoding: 'utf8',
        // Node takes the terminal of a CI server for one without colours.
        env: { ...process.env, CI: undefined, NO_COLOR: undefined, FORCE_COLOR: undefined, TERM: 'xterm' },
      },
    );

    expect(piped).toMatchObject({ stdout: '{\n', stderr: '', status: 0 });
    expect(coloured.stdout).toContain('\x1b[1mSTATUS\x1b[22m');
    expect((await cli('list', '--limit', '2')).stdout).not.toContain('\x1b');
  });
});
