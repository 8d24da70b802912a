import { type LoggerService, Logger } from '@nestjs/common';
import pg from 'pg';

import { AesGcmPayloadCodec, type HistoryEntry, type LogLine, UnreadablePayloadError } from '../../lib/index.js';
import { closeApps, startApp } from '../support/app.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { workflow } from '../support/workflow.js';

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
});

afterEach(closeApps);

afterAll(() => database.drop());

type Setup = Omit<Parameters<typeof startApp>[0], 'database'>;

function start({ options, ...setup }: Setup) {
  return startApp({ database, ...setup, options: { ...options, worker: options?.worker ?? { pollInterval: '20ms' } } });
}

function texts(logs: LogLine[] | undefined): string[] {
  return (logs ?? []).map(({ level, message, context, attempt }) => `${attempt} ${level} ${context}: ${message}`);
}

async function storedLogs(runId: string): Promise<(string | null)[]> {
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  try {
    const { rows } = await client.query<{ logs: string | null }>(
      'select logs from orchestration.history where run_id = $1 order by seq',
      [runId],
    );
    return rows.map(({ logs }) => logs);
  } finally {
    await client.end();
  }
}

/** The app's own logger, which goes on to get every line. */
class Listening implements LoggerService {
  readonly heard: string[] = [];
  log = (message: unknown) => void this.heard.push(String(message));
  error = this.log;
  warn = this.log;
}

describe('the log lines of a step', () => {
  const logger = new Logger('Payments');

  it('are kept with it, attempt by attempt, and the app hears them as ever', async () => {
    const app = new Listening();
    const logging = workflow('logging', async ({ ctx }) => {
      logger.log('not in a step');
      const inStep = ctx.step(
        'charge',
        async ({ attempt }) => {
          logger.log(`charging in ${attempt}`, { amount: 42n });
          Logger.warn('static', 'Elsewhere');
          await new Promise(setImmediate);
          ctx.logger.error('from the context');
          await ctx.step('inner', () => logger.log('of the inner step'));
          if (attempt === 1) throw new Error('once more');
        },
        { retry: { initialInterval: 1 } },
      );
      await Promise.all([
        inStep,
        ctx.step('beside', () => logger.log('of the one beside')),
        ctx.step('silent', () => {}),
      ]);
    });
    const { orchestrator } = await start({ providers: [logging], logger: app });
    const before = new Date(Date.now() - 60_000);

    const run = await orchestrator.start(logging, undefined);
    await run.result();
    const history = await orchestrator.history(run.id);
    const logsOf = (name: string): string[] => texts(history.findLast((entry) => entry.name === name)!.logs);
    const context = `logging ${run.id}`;

    expect(logsOf('charge')).toEqual([
      '1 log Payments: charging in 1 { amount: 42n }',
      '1 warn Elsewhere: static',
      `1 error ${context}: from the context`,
      '2 log Payments: charging in 2 { amount: 42n }',
      '2 warn Elsewhere: static',
      `2 error ${context}: from the context`,
    ]);
    expect(logsOf('inner')).toEqual(['1 log Payments: of the inner step']);
    expect(logsOf('beside')).toEqual(['1 log Payments: of the one beside']);
    expect(logsOf('silent')).toEqual([]);
    expect(history.flatMap(({ logs }) => logs).every(({ at }) => at > before)).toBe(true);
    expect(app.heard).toEqual(
      expect.arrayContaining(['not in a step', 'charging in 1', 'static', 'of the one beside']),
    );
    expect(app.heard.filter((line) => line === 'charging in 2')).toHaveLength(1);
    // Nothing is stored where nothing was written.
    expect((await storedLogs(run.id)).filter((logs) => logs === null).length).toBeGreaterThan(0);
  });

  it('are bounded: the last 100 of an attempt, and 1,000 characters of each', async () => {
    const chatty = workflow('chatty', ({ ctx }) =>
      ctx.step('chat', () => {
        for (let index = 0; index < 250; index++) logger.debug(`${index} ${'x'.repeat(5_000)}`);
      }),
    );
    const { orchestrator } = await start({ providers: [chatty] });
    const run = await orchestrator.start(chatty, undefined);
    await run.result();

    const [{ logs }] = (await orchestrator.history(run.id)) as [HistoryEntry];

    expect(logs).toHaveLength(101);
    expect(logs[0]).toMatchObject({ level: 'warn', message: '150 earlier lines were left out' });
    expect(logs[1]!.message.slice(0, 5)).toBe('150 x');
    expect(logs.every(({ message }) => message.length <= 1_001)).toBe(true);
  });

  it('do not fail a step that the database does not take them of, and are encrypted with its payloads', async () => {
    const codec = new AesGcmPayloadCodec({ keys: [{ id: 'k', key: Buffer.alloc(32, 1) }] });
    const secretive = workflow('secret-logs', ({ ctx }) => ctx.step('tell', () => logger.log('my s3cret')));
    const loud = workflow('loud', ({ ctx }) => ctx.step('tell', () => logger.log('x'.repeat(900))));
    const encrypting = await start({ providers: [secretive], options: { payload: { codec } } });
    const small = await start({ providers: [loud], options: { payload: { maxBytes: 500 } } });

    const secret = await encrypting.orchestrator.start(secretive, undefined);
    await secret.result();
    const tooLoud = await small.orchestrator.start(loud, undefined);

    expect(await tooLoud.result()).toBeUndefined();
    expect(await storedLogs(secret.id)).toEqual([expect.stringMatching(/^!aes/)]);
    expect((await encrypting.orchestrator.history(secret.id)).flatMap(({ logs }) => texts(logs))).toEqual([
      '1 log Payments: my s3cret',
    ]);
    expect(await small.orchestrator.history(secret.id)).toMatchObject([{ logs: [], status: 'completed' }]);
    expect((await small.orchestrator.get(secret.id)).input).not.toBeInstanceOf(UnreadablePayloadError);
  });
});
