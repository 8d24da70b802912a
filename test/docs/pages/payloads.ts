import { expect } from '@jest/globals';
import { randomBytes } from 'node:crypto';

import { DataSource } from 'typeorm';

import { AesGcmPayloadCodec, OrchestrationModule, Orchestrator, type PayloadCodec } from '../../../lib/index.js';
import type { Block, Page, PageApp } from '../page.js';
import { order, OrderWorkflow } from '../fixtures/prelude.js';

const newKey = () => randomBytes(32).toString('base64');
const keys = { old: newKey(), current: newKey(), digest: newKey() };

/** The input of a run as it is stored by an app with this module; the run completes. */
async function storedBy({ serve, dataSource }: PageApp, module: never): Promise<string> {
  const { get } = await serve({ imports: [dataSource(), module], providers: [OrderWorkflow] });
  const run = await get(Orchestrator).start(OrderWorkflow, order);
  expect(await run.result()).toEqual({ total: 10 });
  const [row] = await get(DataSource).query<[{ input: string }]>('select input from orchestration.run where id = $1', [
    run.id,
  ]);
  return row.input;
}

const moduleOf = (block: Block) => block.result.values[0] as never;

export const payloads: Page = {
  path: 'docs/guides/payloads.md',
  blocks: {
    'The limit': async (block, { serve, dataSource }) => {
      await block.run();
      const { get } = await serve({ imports: [dataSource(), moduleOf(block)], providers: [OrderWorkflow] });

      const tooLarge = get(Orchestrator).start(OrderWorkflow, { ...order, email: 'x'.repeat(256 * 1024) });

      await expect(tooLarge).rejects.toMatchObject({ code: 'PAYLOAD' });
    },

    Encryption: async (block, app) => {
      Object.assign(app.env, { PAYLOAD_KEY: keys.old, PAYLOAD_DIGEST_KEY: keys.digest });
      await block.run();

      expect(await storedBy(app, moduleOf(block))).toMatch(/^"?!aes-256-gcm:2026-11:/);
    },

    'Rotating keys': async (block, app) => {
      const before = new AesGcmPayloadCodec({ keys: [{ id: '2026-11', key: keys.old }], digestKey: keys.digest });
      Object.assign(app.env, {
        OLD_PAYLOAD_KEY: keys.old,
        PAYLOAD_KEY: keys.current,
        PAYLOAD_DIGEST_KEY: keys.digest,
      });
      await block.run();
      const [codec] = block.result.values as [PayloadCodec];

      expect(codec.decode(before.encode('old'))).toBe('old');
      expect(codec.encode('new')).toContain(':2027-05:');
    },

    'Rotating keys (2)': async (block, app) => {
      const codec = new AesGcmPayloadCodec({ keys: [{ id: '2026-11', key: keys.old }], digestKey: keys.digest });
      await storedBy(app, OrchestrationModule.forRoot({ payload: { codec } }) as never);
      const dataSource = await new DataSource(app.bed.connection).initialize();
      const answer = async (sql: string) =>
        (await dataSource.query<object[]>(sql)).flatMap((row) => Object.values(row) as unknown[]);

      const [stored, other] = [await answer(block.text), await answer(block.text.replaceAll('2026-11', '2030-01'))];
      await dataSource.destroy();

      expect([stored, other]).toEqual([[true], [false]]);
    },

    'A codec of your own': async (block, app) => {
      await block.run();
      const codec = new (block.declared<new () => PayloadCodec>('CompressingCodec'))();

      const stored = await storedBy(app, OrchestrationModule.forRoot({ payload: { codec } }) as never);

      expect(stored).not.toContain(order.email);
    },
  },
};
