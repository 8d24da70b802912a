import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { DataSource } from 'typeorm';

import type { RunTree } from '../../lib/index.js';
import { AppModule } from '../../sample-app/src/app.module.js';
import { audit } from '../../sample-app/src/demo/audit.js';
import { Charge } from '../../sample-app/src/external/charge.entity.js';
import { SentEmail } from '../../sample-app/src/external/sent-email.entity.js';
import type { OrderStatus } from '../../sample-app/src/orders/order.entity.js';
import type { OrderDetails } from '../../sample-app/src/orders/orders.service.js';
import { type PlacedOrder, placedOrderSchema } from '../../sample-app/src/orders/placed-order.js';
import { ShopSettings } from '../../sample-app/src/shop-settings.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';

function orderOf(id: string, changes: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    id,
    customer: 'Zoë',
    email: 'zoe@example.com',
    city: 'Århus',
    card: 'tok_visa',
    delivery: 'express',
    lines: [{ sku: 'teapot', quantity: 2 }],
    ...changes,
  };
}

/** The statuses of a family, by ref. */
function statusesIn(tree: RunTree): Record<string, string> {
  const children = tree.children.map(statusesIn);
  return Object.assign({ [tree.ref ?? tree.workflow]: tree.status }, ...children) as Record<string, string>;
}

describe('The shop over HTTP', () => {
  let database: TestDatabase;
  let app: INestApplication;
  let url: string;
  const placed: PlacedOrder[] = [];

  beforeAll(async () => {
    database = await createTestDatabase();
    const settings: ShopSettings = {
      databaseUrl: database.url,
      schema: 'public',
      runsSchema: 'orchestration',
      isWorker: true,
      lease: '30s',
      externalServicesUrl: undefined,
    };
    const module = await Test.createTestingModule({ imports: [AppModule] })
      .overrideProvider(ShopSettings)
      .useValue(settings)
      .compile();
    app = module.createNestApplication({ logger: false });
    await app.listen(0, '127.0.0.1');
    url = (await app.getUrl()).replace('[::1]', '127.0.0.1');
  });

  afterAll(async () => {
    await app?.close();
    await database?.drop();
  });

  async function request(
    method: 'GET' | 'POST',
    path: string,
    body?: unknown,
  ): Promise<{ status: number; body: unknown }> {
    const response = await fetch(url + path, {
      method,
      headers: { 'content-type': 'application/json' },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    return { status: response.status, body: await response.json() };
  }

  async function place(order: Record<string, unknown>): Promise<void> {
    const { status } = await request('POST', '/orders', order);
    expect(status).toBe(201);
    placed.push(placedOrderSchema.parse(order));
  }

  async function orderOnce(id: string, is: (details: OrderDetails) => boolean): Promise<OrderDetails> {
    for (;;) {
      const { body } = await request('GET', `/orders/${id}`);
      if (is(body as OrderDetails)) return body as OrderDetails;
      await delay(50);
    }
  }

  function orderWith(id: string, status: OrderStatus): Promise<OrderDetails> {
    return orderOnce(id, ({ order, runs }) => order.status === status && runs.finishedAt !== undefined);
  }

  it('says how to use it', async () => {
    const { status, body } = await request('GET', '/');

    expect(status).toBe(200);
    expect(body).toMatchObject({ routes: { 'POST /orders': expect.anything() } });
  });

  it('brings an order from its payment to the door, and shows its family and history', async () => {
    await place(orderOf('happy'));

    const { order, payment, shipments, runs, history } = await orderWith('happy', 'shipped');

    expect(order.total).toEqual({ amount: 13_800, currency: 'EUR' });
    expect(payment).toMatchObject({ amount: 13_800, status: 'captured' });
    expect(shipments).toMatchObject([{ parcel: 1, items: 2, status: 'delivered' }]);
    expect(statusesIn(runs)).toMatchObject({
      order: 'completed',
      payment: 'completed',
      shipping: 'completed',
      'parcel 1': 'completed',
    });
    expect(history.map(({ key }) => key)).toEqual([
      'OrderBook.price',
      'StockService.reserve',
      'payment',
      'OrderBook.setStatus',
      'confirmation',
      'shipping',
      'OrderBook.setStatus#2',
    ]);
  });

  it('ends an order whose card is declined, puts its goods back and says sorry', async () => {
    await place(orderOf('declined', { card: 'tok_no_funds' }));

    const { payment, shipments, runs } = await orderWith('declined', 'payment declined');

    expect(payment).toMatchObject({ status: 'declined' });
    expect(shipments).toEqual([]);
    expect(statusesIn(runs)).toMatchObject({ order: 'completed', payment: 'failed' });
    const { body: products } = await request('GET', '/products');
    expect(products).toContainEqual(expect.objectContaining({ sku: 'teapot', stock: 118 }));
  });

  it('turns an order down that wants more than there is', async () => {
    await place(orderOf('too-large', { lines: [{ sku: 'moon-jar', quantity: 6 }] }));

    const { payment, runs } = await orderWith('too-large', 'out of stock');

    expect(payment).toBeNull();
    expect(statusesIn(runs)).not.toHaveProperty('payment');
  });

  it('cancels an order on its way with all that it started, and gives money and goods back', async () => {
    await place(orderOf('changed-my-mind', { delivery: 'slow boat', lines: [{ sku: 'cup', quantity: 20 }] }));
    await orderOnce('changed-my-mind', ({ shipments }) => shipments.length === 2);

    const cancellation = await request('POST', '/orders/changed-my-mind/cancel');
    const { payment, shipments, runs } = await orderWith('changed-my-mind', 'cancelled');

    expect(cancellation.status).toBe(202);
    expect(statusesIn(runs)).toMatchObject({
      order: 'cancelled',
      payment: 'completed',
      shipping: 'cancelled',
      'parcel 1': 'cancelled',
      'parcel 2': 'cancelled',
    });
    expect(payment).toMatchObject({ status: 'refunded' });
    expect(shipments.map(({ status }) => status)).toEqual(['called back', 'called back']);
    const again = await request('POST', '/orders/changed-my-mind/cancel');
    expect(again).toMatchObject({ status: 409, body: { message: expect.stringContaining('cancelled') } });
  });

  it('takes an order that is sent twice once, and refuses another one under the same id', async () => {
    await place(orderOf('twice'));

    const same = await request('POST', '/orders', orderOf('twice'));
    const other = await request('POST', '/orders', orderOf('twice', { city: 'Oslo' }));

    expect(same.status).toBe(201);
    expect(other).toMatchObject({ status: 409, body: { message: expect.stringContaining("'twice'") } });
    await orderWith('twice', 'shipped');
  });

  it('refuses an order that makes no sense, and names every field', async () => {
    const wrong = { ...orderOf('wrong'), email: 'nobody', lines: [{ sku: 'coffee', quantity: 0 }], colour: 'red' };

    const { status, body } = await request('POST', '/orders', wrong);

    const { message } = body as { message: string[] };
    expect(status).toBe(400);
    expect(message).toHaveLength(4);
    for (const field of ['email', 'lines.0.sku', 'lines.0.quantity', 'colour'])
      expect(message.join('\n')).toContain(field);
  });

  it('knows no order that nobody has placed', async () => {
    expect((await request('GET', '/orders/unknown')).status).toBe(404);
    expect((await request('POST', '/orders/unknown/cancel')).status).toBe(404);
  });

  it('has books that agree with those of the payment provider and the mailer', async () => {
    const dataSource = app.get(DataSource);
    const emails = dataSource.getRepository(SentEmail);
    while ((await emails.count()) < placed.length) await delay(50);

    const findings = await audit(dataSource, placed);

    expect(findings.flatMap(({ problems }) => problems)).toEqual([]);
  });

  it('has an audit that notices a second charge and a lost e-mail', async () => {
    const dataSource = app.get(DataSource);
    const again = {
      idempotencyKey: 'another',
      orderId: 'happy',
      amount: 13_800,
      currency: 'EUR',
      status: 'captured',
    } as const;
    await dataSource.getRepository(Charge).insert(again);
    await dataSource.getRepository(SentEmail).delete({ orderId: 'happy' });

    const problems = (await audit(dataSource, placed)).flatMap((finding) => finding.problems);

    expect(problems).toEqual([
      expect.stringContaining('happy (shipped): the provider has [captured 13800 EUR, captured 13800 EUR]'),
      expect.stringContaining('happy: captured in the shop, captured, captured at the provider'),
      'happy: e-mails: 0, and not 1',
    ]);
  });
});

describe('The demo', () => {
  let folder: string;
  let database: TestDatabase;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'demo-'));
    database = await createTestDatabase();
  });

  afterAll(async () => {
    await database?.drop();
    await rm(folder, { recursive: true, force: true });
  });

  async function write(name: string, content: string): Promise<string> {
    const file = join(folder, name);
    await writeFile(file, content);
    return file;
  }

  async function demo(...args: string[]): Promise<{ code: number | null; output: string }> {
    const script = join(process.cwd(), 'sample-app/dist/demo.main.js');
    if (!existsSync(script))
      throw new Error('The sample app is not built: run `npm test`, or `node scripts/build-as-needed.mjs`.');
    const env = { ...process.env, DATABASE_URL: database.url, INIT_CWD: folder };
    const child = spawn(process.execPath, [script, ...args], { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += String(chunk)));
    const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
    return { code, output };
  }

  it('survives the death of its worker, cancels a family, and finds the books right', async () => {
    const orders = Array.from({ length: 8 }, (_, index) =>
      orderOf(`D-${index}`, index === 3 ? { card: 'tok_declined' } : {}),
    );
    const file = await write('orders.json', JSON.stringify(orders));

    const { code, output } = await demo('--file', file);

    expect({ code, output }).toEqual({ code: 0, output: expect.stringContaining('1 cancelled') });
    expect(output).toMatch(/Worker process (\d+) was killed \(SIGKILL\) with [1-9]\d* orders under way\n/);
    expect(output).toContain('9 orders: 7 shipped, 1 payment declined, 1 cancelled');
    expect(output).toMatch(/└─ shipping +completed/);
    expect(output).toMatch(/└─ shipping +cancelled/);
    expect(output).toMatch(/└─ parcel \d +cancelled/);
    expect(output).not.toContain('NOT TRUE');
    // No colours and no moving cursor where nobody looks.
    expect(output).not.toContain('\u001b');
    const processes = [...output.matchAll(/[Ww]orker process (\d+)/g)].map(([, pid]) => Number(pid));
    expect(new Set(processes).size).toBe(2);
    for (const pid of processes) expect(() => process.kill(pid, 0)).toThrow('ESRCH');
  });

  it.each([
    ['is missing', undefined, /The orders file .*bad\.json cannot be read: ENOENT/],
    ['is no JSON', '[\n  { "id": "a",\n    "city": Oslo }\n]', /bad\.json:3: this is no JSON: InvalidSymbol/],
    ['is empty', '', /bad\.json:1: this is no JSON/],
    ['has no orders', '[]', /bad\.json:1: there is no order in it/],
    [
      'has a wrong field',
      `[\n${JSON.stringify(orderOf('a'))},\n${JSON.stringify(orderOf('b', { lines: [{ sku: 'cup', quantity: -1 }] }))}\n]`,
      /bad\.json:3: orders\[1\]\.lines\[0\]\.quantity: /,
    ],
    [
      'has an order twice',
      `[\n${JSON.stringify(orderOf('a'))},\n${JSON.stringify(orderOf('a'))}\n]`,
      /bad\.json:3: orders\[1\]\.id: there is another order 'a' before/,
    ],
  ])('says what is wrong with a file that %s', async (_what, content, message) => {
    await rm(join(folder, 'bad.json'), { force: true });
    if (content !== undefined) await write('bad.json', content);

    const { code, output } = await demo('--file', 'bad.json');

    expect(output).toMatch(message);
    expect(output).not.toContain('    at ');
    expect(code).toBe(1);
  });

  it('says what is wrong with an argument', async () => {
    const { code, output } = await demo('--fiel', 'x.json');

    expect(output).toContain("'--fiel'");
    expect(output).toContain('Usage: npm run demo');
    expect(code).toBe(1);
  });
});
