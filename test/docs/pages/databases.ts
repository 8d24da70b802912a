import { expect } from '@jest/globals';
import { DataSource } from 'typeorm';

import { OrchestrationModule, Orchestrator } from '../../../lib/index.js';
import { createTestDatabase } from '../../support/database.js';
import type { Block, Page, PageApp, ServedApp } from '../page.js';
import { order, OrderWorkflow } from '../fixtures/prelude.js';

/** The module that a block makes. */
const moduleOf = (block: Block, index = 0) => block.result.values[index] as never;

/** Whether the engine of an app works, and on the bed's database. */
async function worksOnDatabaseOf({ orchestrator }: PageApp, { get }: ServedApp): Promise<boolean> {
  const run = await get(Orchestrator).start(OrderWorkflow, order);
  await run.result();
  return (await orchestrator.get(run.id)).status === 'completed';
}

export const databases: Page = {
  path: 'docs/guides/databases.md',
  bed: () => ({ providers: [OrderWorkflow] }),
  blocks: {
    "The app's DataSource": async (block, app) => {
      await block.run();
      const byDefault = await app.serve({ imports: [app.dataSource(), moduleOf(block)], providers: [OrderWorkflow] });
      const reporting = app.dataSource({ name: 'reporting' });
      const byName = await app.serve({ imports: [reporting, moduleOf(block, 1)], providers: [OrderWorkflow] });

      expect(await worksOnDatabaseOf(app, byDefault)).toBe(true);
      expect(await worksOnDatabaseOf(app, byName)).toBe(true);
    },

    'A connection of its own': async (block, app) => {
      await block.run();
      const served = await app.serve({ imports: [moduleOf(block)], providers: [OrderWorkflow] });

      expect(await worksOnDatabaseOf(app, served)).toBe(true);
    },

    'A connection of its own (2)': async (block, app) => {
      await block.run();
      const served = await app.serve({ imports: [moduleOf(block)], providers: [OrderWorkflow] });

      expect(await worksOnDatabaseOf(app, served)).toBe(true);
    },

    'The embedded PostgreSQL': async (block, { serve }) => {
      await block.run();
      const imports = [moduleOf(block), OrchestrationModule.forRoot()];
      const { get } = await serve({ imports, providers: [OrderWorkflow] });

      const [{ data_directory: folder }] =
        await get(DataSource).query<[{ data_directory: string }]>('show data_directory');
      const { id } = await get(Orchestrator).start(OrderWorkflow, order);
      expect(folder).toContain('.orchestration');
      expect(await get(DataSource).query('select id from orchestration.run where id = $1', [id])).toHaveLength(1);
    },

    Migrations: async (block, app) => {
      const database = await createTestDatabase();
      try {
        app.env.ADMIN_DATABASE_URL = database.url;
        const ofTheProcesses = () =>
          app.serve({ imports: [OrchestrationModule.forRoot({ connection: database.connection, migrate: false })] });
        await expect(ofTheProcesses()).rejects.toMatchObject({ code: 'SCHEMA_BEHIND' });

        await block.run();
        await block.declared<() => Promise<void>>('migrate')();

        await expect(ofTheProcesses()).resolves.toBeDefined();
        await app.closeServed();
      } finally {
        await database.drop();
      }
    },

    'Starting a run in your own transaction': async (block, { bed, orchestrator }) => {
      const dataSource = await new DataSource(bed.connection).initialize();
      await dataSource.query('create table orders (id text primary key)');
      await block.run();
      const placeOrder = block.declared<(dataSource: DataSource, input: object) => Promise<string>>('placeOrder');

      const runId = await placeOrder(dataSource, { ...order, id: '1' });
      await dataSource.query(`insert into orders values ('2')`);
      await expect(placeOrder(dataSource, { ...order, id: '2' })).rejects.toThrow('duplicate key');
      await dataSource.destroy();

      expect(await bed.result(runId)).toEqual({ total: 10 });
      expect(await orchestrator.findByKey(OrderWorkflow, '2')).toBeUndefined();
    },

    Processes: async (block, { serve, dataSource, bed }) => {
      await block.run();
      const { get } = await serve({ imports: [dataSource(), block.declared<never>('AppModule')] });
      type Reports = { start(day: string): ReturnType<Orchestrator['start']> };

      const run = await get(block.declared<new () => Reports>('Reports')).start('2026-11-20');

      expect(await run.result()).toBe('2026-11-20');
      await expect(bed.orchestrator.get(run.id)).rejects.toMatchObject({ code: 'RUN_NOT_FOUND' });
      expect(await get(DataSource).query('select id from orchestration_reports.run')).toEqual([{ id: run.id }]);
    },

    Poolers: async (block, app) => {
      app.env.POOLER_URL = app.env.DATABASE_URL!;
      await block.run();
      const served = await app.serve({ imports: [moduleOf(block)], providers: [OrderWorkflow] });

      expect(await worksOnDatabaseOf(app, served)).toBe(true);
    },
  },
};
