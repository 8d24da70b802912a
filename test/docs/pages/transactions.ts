import { TypeOrmModule } from '@nestjs/typeorm';
import { expect } from '@jest/globals';
import { DataSource } from 'typeorm';

import type { Page } from '../page.js';
import { order, OrderWorkflow } from '../fixtures/prelude.js';

interface Transferring {
  transfer(from: string, to: string, amount: number): Promise<void>;
}

interface Placing {
  place(input: typeof order): Promise<void>;
}

const shop = `
  create table account (id text primary key, balance int check (balance >= 0));
  insert into account values ('a', 100), ('b', 0);
  create table stock (sku text primary key, free int check (free >= 0));
  insert into stock values ('${order.id}', 1);
  create table shop_order (id text primary key)`;

export const transactions: Page = {
  path: 'docs/guides/transactions.md',
  bed: async (declared) => ({
    imports: (connection) => [TypeOrmModule.forRoot(connection)],
    orchestration: { dataSource: 'default' },
    providers: [OrderWorkflow, ...(await declared('Transactional steps'))],
  }),
  blocks: {
    'Transactional steps': async (block, { bed, inRun }) => {
      await bed.get(DataSource).query(shop);
      const accounts = block.instance<Transferring>('Accounts');
      const transfer = (to: string, amount: number) => inRun(() => accounts.transfer('a', to, amount));

      await (await transfer('b', 30)).result();
      const tooMuch = await transfer('b', 71);
      await bed.skip('1m');
      await expect(tooMuch.result()).rejects.toThrow('balance');

      expect(await bed.get(DataSource).query('select balance from account order by id')).toEqual([
        { balance: 70 },
        { balance: 30 },
      ]);
    },

    'Transactional steps (2)': async (block, { bed }) => {
      await (await block.inRun()).result();
      const soldOut = await block.inRun();
      await bed.skip('1m');

      await expect(soldOut.result()).rejects.toThrow('free');
      expect(await bed.get(DataSource).query('select free from stock')).toEqual([{ free: 0 }]);
    },

    'Runs that start with your writes': async (block, { bed, orchestrator }) => {
      await block.run();
      const Orders = block.declared<new (...args: unknown[]) => Placing>('Orders');
      const ordersOfTheShop = new Orders(bed.get(DataSource), orchestrator);

      await ordersOfTheShop.place(order);
      await bed.get(DataSource).query(`insert into shop_order values ('other')`);
      await expect(ordersOfTheShop.place({ ...order, id: 'other' })).rejects.toThrow('duplicate key');

      expect(await orchestrator.findByKey(OrderWorkflow, order.id)).toBeDefined();
      expect(await orchestrator.findByKey(OrderWorkflow, 'other')).toBeUndefined();
    },
  },
};
