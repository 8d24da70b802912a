import { expect } from '@jest/globals';
import { DataSource } from 'typeorm';

import { Orchestrator, type RunTree } from '../../../lib/index.js';
import { partOfTheApp } from '../common-tests.js';
import type { DocumentedApp } from '../documented-app.js';
import type { Page, PageApp } from '../page.js';
import { order, OrderWorkflow } from '../fixtures/prelude.js';
import { commandsOf } from '../shell.js';

/** The run of the order that "4. Run it" places; placed again, it is the same run. */
async function placeOrder({ block }: PageApp, shop: DocumentedApp): Promise<string> {
  const [, placing] = commandsOf(block('4. Run it').text);
  return (JSON.parse(await shop.curl(placing!.words)) as { runId: string }).runId;
}

const ofRun = (words: readonly string[], runId: string) => words.map((word) => word.replace('<runId>', runId));

async function familyOf(shop: DocumentedApp, runId: string): Promise<RunTree> {
  return JSON.parse(await shop.request('GET', `/orders/${runId}`)) as RunTree;
}

/** Of a run and its descendants. */
function statusesOf({ status, children }: RunTree): string[] {
  return [status, ...children.flatMap(statusesOf)];
}

const untilAll = (shop: DocumentedApp, runId: string, status: string) =>
  shop.until(async () => statusesOf(await familyOf(shop, runId)).join() === `${status},${status}`);

export const gettingStarted: Page = {
  path: 'docs/getting-started.md',
  bed: () => ({ providers: [OrderWorkflow] }),
  blocks: {
    '2. Two workflows': partOfTheApp,
    '2. Two workflows (2)': partOfTheApp,
    '3. A controller and the module': partOfTheApp,
    '3. A controller and the module (2)': partOfTheApp,
    '3. A controller and the module (3)': partOfTheApp,

    '4. Run it': async (block, app) => {
      const [start, placing] = commandsOf(block.text);
      const answer: unknown = JSON.parse(await (await app.process()).curl(placing!.words));

      expect(start!.words).toEqual(['npm', 'start']);
      expect(answer).toEqual({ runId: expect.any(String), started: true });
    },

    '4. Run it (2)': async (block, app) => {
      const shop = await app.process();
      const runId = await placeOrder(app, shop);
      const [seeing] = commandsOf(block.text);

      expect(JSON.parse(await shop.curl(ofRun(seeing!.words, runId)))).toMatchObject({ id: runId });
    },

    '4. Run it (3)': async (block, app) => {
      const shop = await app.process();
      const runId = await placeOrder(app, shop);
      await untilAll(shop, runId, 'waiting');
      const before = await familyOf(shop, runId);

      await shop.stop();
      await shop.start();
      const after = await familyOf(shop, runId);

      const shown = JSON.parse(block.text, (_key, value: unknown) =>
        value === '…' ? (expect.any(String) as unknown) : value,
      ) as object;
      expect(before).toMatchObject(shown);
      expect(after).toMatchObject(shown);
      const charges = shop.output.filter((line) => line.startsWith('charging'));
      expect(charges).toEqual([`charging 42, once for ${runId}/charge`]);
    },

    '5. Cancel it': async (block, app) => {
      const shop = await app.process();
      const runId = await placeOrder(app, shop);
      await untilAll(shop, runId, 'waiting');
      const [cancelling, seeing] = commandsOf(block.text);

      const answer: unknown = JSON.parse(await shop.curl(ofRun(cancelling!.words, runId)));
      await untilAll(shop, runId, 'cancelled');

      expect(answer).toEqual(JSON.parse(cancelling!.comment!));
      expect(JSON.parse(await shop.curl(ofRun(seeing!.words, runId)))).toMatchObject({ status: 'cancelled' });
    },

    '6. Your own database': async (block, { serve, orchestrator }) => {
      await block.run();
      const { get } = await serve({ imports: [block.declared<never>('AppModule')] });
      const run = await get(Orchestrator).start(OrderWorkflow, order);

      expect(await run.result()).toEqual({ total: 10 });
      expect(await orchestrator.get(run.id)).toMatchObject({ status: 'completed' });
    },

    '6. Your own database (2)': async (block, { serve }) => {
      await block.run();
      const { get } = await serve({ imports: [block.declared<never>('AppModule')], providers: [OrderWorkflow] });
      await get(Orchestrator).execute(OrderWorkflow, order);

      const [{ folder }] = await get(DataSource).query<[{ folder: string }]>(
        `select current_setting('data_directory') as folder from orchestration.run limit 1`,
      );
      expect(folder).toContain('.orchestration');
    },

    '6. Your own database (3)': async (block, { bed, orchestrator }) => {
      const dataSource = await new DataSource(bed.connection).initialize();
      await dataSource.query('create table orders (id text primary key)');
      await block.run();
      const place = block.declared<(dataSource: DataSource, input: typeof order) => Promise<void>>('place');

      await place(dataSource, order);
      await dataSource.query(`insert into orders values ('other')`);
      await expect(place(dataSource, { ...order, id: 'other' })).rejects.toThrow('duplicate key');
      await dataSource.destroy();

      expect(await orchestrator.findByKey(OrderWorkflow, order.id)).toBeDefined();
      expect(await orchestrator.findByKey(OrderWorkflow, 'other')).toBeUndefined();
    },
  },
};
