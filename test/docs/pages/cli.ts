import { expect } from '@jest/globals';

import { command, type Finished } from '../../cli/command.js';
import { closeApps, startApp } from '../../support/app.js';
import { createTestDatabase } from '../../support/database.js';
import { workflow } from '../../support/workflow.js';
import type { Block, Page, PageApp } from '../page.js';
import { commandsOf } from '../shell.js';

const Parcel = workflow('parcel', ({ ctx }) => ctx.waitForSignal('delivered'));
const Order = workflow<{ id: string; total: number }>('order', async ({ ctx, children }, { id, total }) => {
  await ctx.step('charge', () => `receipt of ${id}`);
  await ctx.setState({ charged: total });
  await children.start(Parcel, undefined, { ref: 'parcel' });
  return ctx.waitForSignal('approve', { timeout: '2h' });
});
const Report = workflow<{ day: string }, string>('report', (_tools, { day }) => `the report of ${day}`);
const Charge = workflow('charge', () => {
  throw new Error('no money');
});

const INPUT = { id: '4711', total: 42 };

type Environment = Record<string, string>;

interface Circumstances {
  stdin?: string;
  /** A run for the `01a1fb3f-c03f` of the page. */
  runId?: string;
}

/** Runs the commands of a block on the database of the app. Where the block shows output, they are behind `$`. */
async function runAll({ text }: Block, env: Environment, { stdin, runId }: Circumstances = {}): Promise<Finished[]> {
  const source = text.startsWith('$ ') ? /^\$ (.*)$/m.exec(text)![1]! : text;
  const finished: Finished[] = [];
  for (const { words } of commandsOf(source)) {
    const [npx, program, ...rest] = words;
    expect([npx, program]).toEqual(['npx', 'orchestration']);
    const end = rest.findIndex((word) => word === '|' || word === '<');
    const args = (end < 0 ? rest : rest.slice(0, end)).map((word) => (word === '01a1fb3f-c03f' ? runId! : word));
    finished.push(await command({ args, env, ...(rest.includes('<') && { stdin }) }));
  }
  return finished;
}

const theOrder = ({ orchestrator }: PageApp) => orchestrator.start(Order, INPUT, { key: '4711' });

/** What differs from run to run: ids, times, and the widths of columns that hold them. */
const shape = (text: string) =>
  text
    .replace(/^\$.*\n/, '')
    .replace(/[0-9a-f]{8}(-[0-9a-f]+)+/g, '<id>')
    .replace(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/g, '<time>')
    .replace(/\b\d+(\.\d+)?(ms|s|m|h)( \d+m)?( ago)?/g, '<long>')
    .replace(/[ ]{2,}/g, '  ')
    .trimEnd();

export const cli: Page = {
  path: 'docs/cli.md',
  bed: () => ({ providers: [Order, Parcel, Report, Charge] }),
  blocks: {
    'The `orchestration` command': async (block, app) => {
      await theOrder(app);
      const { id } = await app.orchestrator.start(Parcel, undefined);
      await app.atRest();

      const [list, inspect, cancel] = await runAll(block, app.env, { runId: id });

      expect([list, inspect, cancel].map((one) => one!.exitCode)).toEqual([0, 0, 0]);
      expect(inspect!.stdout).toContain('order@1');
      await expect(app.bed.result(id)).rejects.toMatchObject({ reason: 'ordered twice' });
    },

    Output: async (block, app) => {
      const [list] = await runAll(block, app.env);

      expect(list!.json()).toMatchObject({ items: [] });
    },

    inspect: async (block, app) => {
      await theOrder(app);
      await app.atRest();

      const [inspect] = await runAll(block, app.env);

      expect(shape(inspect!.stdout)).toBe(shape(block.text));
    },

    run: async (block, app) => {
      const [started, report] = await runAll(block, app.env, { stdin: '{ "day": "2026-11-20" }' });

      const { id } = (await app.orchestrator.findByKey(Order, '4711'))!;
      expect(started).toMatchObject({ exitCode: 0, stdout: expect.stringContaining(id) });
      expect(report).toMatchObject({ exitCode: 0, stdout: expect.stringContaining('the report of 2026-11-20') });
    },

    retry: async (block, app) => {
      const failed = await app.orchestrator.start(Charge, undefined);
      await expect(failed.result()).rejects.toThrow('no money');

      const [cancel, retry] = await runAll(block, app.env);

      expect(cancel).toMatchObject({ exitCode: 0, stdout: expect.stringMatching(/\b0\b/) });
      expect(retry).toMatchObject({ exitCode: 0, stdout: expect.stringMatching(/\b1\b/) });
    },

    queues: async (block, app) => {
      const finished = await runAll(block, app.env);

      expect(finished.map(({ exitCode }) => exitCode)).toEqual([0, 0, 0]);
      const emails = (await app.orchestrator.queues.list()).find(({ name }) => name === 'emails');
      expect(emails).toMatchObject({ paused: true, limits: {} });
    },

    doctor: async (block) => {
      const database = await createTestDatabase();
      try {
        const before = await startApp({ database, providers: [Order] });
        await before.orchestrator.startMany(
          Order,
          Array.from({ length: 12 }, () => ({ input: INPUT, delay: '1h' }) as const),
        );
        await before.close();
        const after = await startApp({ database });
        const [doctor] = await runAll(block, { DATABASE_URL: database.url });
        await after.close();

        expect(shape(doctor!.stdout)).toBe(shape(block.text));
        expect(doctor!.exitCode).toBe(1);
      } finally {
        await closeApps();
        await database.drop();
      }
    },
  },
};
