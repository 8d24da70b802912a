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

import { type Duration, Orchestrator, type RunTree } from '../../lib/index.js';
import { AppModule } from '../../sample-app/src/app.module.js';
import { audit } from '../../sample-app/src/demo/audit.js';
import type { Decision } from '../../sample-app/src/demo/manager.js';
import { Charge } from '../../sample-app/src/external/charge.entity.js';
import { ReceivedCall } from '../../sample-app/src/external/received-call.entity.js';
import { SentEmail } from '../../sample-app/src/external/sent-email.entity.js';
import type { PendingApproval } from '../../sample-app/src/orders/approvals.service.js';
import type { OrderStatus } from '../../sample-app/src/orders/order.entity.js';
import type { OrderDetails } from '../../sample-app/src/orders/orders.service.js';
import { type PlacedOrder, placedOrderSchema } from '../../sample-app/src/orders/placed-order.js';
import { ShopSettings } from '../../sample-app/src/shop-settings.js';
import type { Product } from '../../sample-app/src/stock/product.entity.js';
import { Reservation } from '../../sample-app/src/stock/reservation.entity.js';
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

/** One that a manager must approve. */
function largeOrderOf(id: string, changes: Record<string, unknown> = {}): Record<string, unknown> {
  return orderOf(id, { lines: [{ sku: 'kettle', quantity: 6 }], ...changes });
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
  const settings = { approvalDeadline: '1h' as Duration };
  const placed: PlacedOrder[] = [];
  const decisions = new Map<string, Decision>();

  beforeAll(async () => {
    database = await createTestDatabase();
    const allSettings: ShopSettings = Object.assign(settings, {
      databaseUrl: database.appUrl,
      schema: 'public',
      runsSchema: 'orchestration',
      isWorker: true,
      lease: '30s' as const,
      largeOrderCents: 50_000,
      externalServicesUrl: undefined,
    });
    const module = await Test.createTestingModule({ imports: [AppModule] })
      .overrideProvider(ShopSettings)
      .useValue(allSettings)
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
    const text = await response.text();
    return { status: response.status, body: text ? JSON.parse(text) : undefined };
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

  async function approvalOf(orderId: string): Promise<PendingApproval> {
    for (;;) {
      const { body } = await request('GET', '/approvals');
      const approval = (body as PendingApproval[]).find((pending) => pending.orderId === orderId);
      if (approval) return approval;
      await delay(50);
    }
  }

  async function stockOf(sku: string): Promise<number | undefined> {
    const { body } = await request('GET', '/products');
    return (body as Product[]).find((product) => product.sku === sku)?.stock;
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

  it('ends an order whose card is declined, undoes it from its end to its beginning and says sorry', async () => {
    await place(orderOf('declined', { card: 'tok_no_funds' }));

    const { payment, shipments, runs, history } = await orderWith('declined', 'payment declined');

    expect(payment).toMatchObject({ status: 'declined' });
    expect(shipments).toEqual([]);
    const undone = history.filter(({ kind, status }) => kind === 'compensation' && status === 'completed');
    expect(undone.map(({ name }) => name)).toEqual(['refund', 'StockService.reserve', 'close']);
    expect(statusesIn(runs)).toMatchObject({ order: 'failed', payment: 'failed' });
    expect(await stockOf('teapot')).toBe(118);
  });

  it('turns an order down that wants more than there is', async () => {
    await place(orderOf('too-large', { lines: [{ sku: 'moon-jar', quantity: 6 }] }));

    const { payment, runs } = await orderWith('too-large', 'out of stock');

    expect(payment).toBeNull();
    expect(statusesIn(runs)).not.toHaveProperty('payment');
  });

  it('lets a large order wait for a manager, and go ahead when she approves', async () => {
    await place(largeOrderOf('approved'));

    const { prompt, expiresAt } = await approvalOf('approved');
    const waiting = (await request('GET', '/orders/approved')).body as OrderDetails;
    const answer = await request('POST', '/approvals/approved', { approved: true });
    decisions.set('approved', 'approved');

    expect(prompt).toBe('Zoë orders for €537.00. Shall order approved go ahead?');
    expect(new Date(expiresAt!).getTime()).toBeGreaterThan(Date.now());
    expect(waiting).toMatchObject({ order: { status: 'placed', isLarge: true }, payment: null });
    expect(answer).toEqual({ status: 204, body: undefined });
    await orderWith('approved', 'shipped');
    const again = await request('POST', '/approvals/approved', { approved: false });
    expect(again).toMatchObject({ status: 409, body: { message: expect.stringContaining("input 'approval'") } });
  });

  it('puts the goods of a large order back when the manager refuses it, and takes no money', async () => {
    const before = await stockOf('kettle');
    await place(largeOrderOf('refused'));
    await approvalOf('refused');
    expect(await stockOf('kettle')).toBe(before! - 6);

    await request('POST', '/approvals/refused', { approved: false });
    decisions.set('refused', 'refused');

    const { payment, runs } = await orderWith('refused', 'refused');
    expect(payment).toBeNull();
    expect(statusesIn(runs)).toEqual({ order: 'failed', farewell: expect.any(String) });
    expect(await stockOf('kettle')).toBe(before);
  });

  it('turns a large order down that nobody has approved in time', async () => {
    const before = await stockOf('kettle');
    settings.approvalDeadline = '300ms';
    await place(largeOrderOf('overlooked'));
    decisions.set('overlooked', 'overlooked');

    const { payment } = await orderWith('overlooked', 'not approved in time');
    settings.approvalDeadline = '1h';

    expect(payment).toBeNull();
    expect(await stockOf('kettle')).toBe(before);
    expect((await request('POST', '/approvals/overlooked', { approved: true })).status).toBe(409);
  });

  it('undoes a large order that is cancelled while it waits for the manager', async () => {
    const before = await stockOf('kettle');
    await place(largeOrderOf('impatient'));
    await approvalOf('impatient');

    await request('POST', '/orders/impatient/cancel');

    const { payment, runs } = await orderWith('impatient', 'cancelled');
    expect(payment).toBeNull();
    expect(statusesIn(runs)).toMatchObject({ order: 'cancelled', farewell: expect.not.stringContaining('cancelled') });
    expect(await stockOf('kettle')).toBe(before);
    expect((await request('GET', '/approvals')).body).toEqual([]);
  });

  it('takes no answer but yes or no, and none to an order that nobody has to approve', async () => {
    await place(largeOrderOf('maybe'));
    await approvalOf('maybe');
    await place(orderOf('small'));

    const maybe = await request('POST', '/approvals/maybe', { approved: 'maybe' });
    const small = await request('POST', '/approvals/small', { approved: true });
    const unknown = await request('POST', '/approvals/unknown', { approved: true });

    expect(maybe).toMatchObject({ status: 400, body: { message: expect.stringContaining('approval') } });
    expect(small.status).toBe(409);
    expect(unknown.status).toBe(404);
    await request('POST', '/approvals/maybe', { approved: true });
    decisions.set('maybe', 'approved');
    await Promise.all([orderWith('maybe', 'shipped'), orderWith('small', 'shipped')]);
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

  it('cancels an order that no worker has begun, and tells the customer', async () => {
    const { queues } = app.get(Orchestrator);
    await queues.pause('default');
    await place(orderOf('not-begun'));

    const cancellation = await request('POST', '/orders/not-begun/cancel');
    const again = await request('POST', '/orders/not-begun/cancel');
    const { order, runs, history } = (await request('GET', '/orders/not-begun')).body as OrderDetails;
    await queues.resume('default');

    expect([cancellation.status, again.status]).toEqual([202, 409]);
    expect({ order: order.status, run: runs.status, history }).toEqual({
      order: 'cancelled',
      run: 'cancelled',
      history: [],
    });
  });

  it('lets a payment that has begun come to its end before it refunds a cancelled order', async () => {
    const dataSource = app.get(DataSource);
    const countRefunds = () => dataSource.getRepository(ReceivedCall).countBy({ path: '/external/payments/refunds' });
    const refunds = await countRefunds();
    const bank = dataSource.createQueryRunner();
    await bank.query(`create function hold() returns trigger language plpgsql as
      $$ begin perform pg_advisory_xact_lock(4711); return new; end $$`);
    await bank.query(`create trigger hold before insert on charge for each row
      when (new."orderId" = 'hasty') execute function hold()`);
    // In a transaction: a pooler gives each other statement to another session.
    await bank.startTransaction();
    await bank.query('select pg_advisory_xact_lock(4711)');
    await place(orderOf('hasty'));
    const waiting = `select 1 from pg_locks where locktype = 'advisory' and not granted
      and database = (select oid from pg_database where datname = current_database())`;
    while ((await dataSource.query<unknown[]>(waiting)).length === 0) await delay(20);

    await request('POST', '/orders/hasty/cancel');
    // Time enough for a refund that would not wait.
    await delay(300);
    const tooEarly = (await countRefunds()) - refunds;
    await bank.commitTransaction();
    await bank.release();

    const { payment } = await orderWith('hasty', 'cancelled');
    expect(tooEarly).toBe(0);
    expect(payment).toMatchObject({ status: 'refunded' });
    const charges = await dataSource.getRepository(Charge).findBy({ orderId: 'hasty' });
    expect(charges.map(({ status }) => status)).toEqual(['refunded']);
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
    // Only the order that was cancelled on its way gets two letters: that it is paid, and that it is cancelled.
    while ((await emails.count()) < placed.length + 1) await delay(50);

    const findings = await audit(dataSource, placed, decisions);

    expect(findings.flatMap(({ problems }) => problems)).toEqual([]);
  });

  it('has an audit that notices a second charge, a lost e-mail, goods that nobody put back and a manager who was not heard', async () => {
    const dataSource = app.get(DataSource);
    const again = {
      idempotencyKey: 'another',
      orderId: 'happy',
      amount: 1,
      currency: 'EUR',
      status: 'captured',
    } as const;
    await dataSource.getRepository(Charge).insert(again);
    await dataSource.getRepository(SentEmail).delete({ orderId: 'happy' });
    await dataSource.getRepository(Reservation).update({ orderId: 'refused' }, { released: false });
    const unheard = new Map(decisions).set('approved', 'refused');

    const problems = (await audit(dataSource, placed, unheard)).flatMap((finding) => finding.problems);

    expect(problems).toEqual([
      'happy (shipped): the card: captured, captured 1 EUR, and not captured',
      expect.stringContaining('happy: captured in the shop, captured, captured at the provider'),
      'approved: shipped, and the manager: refused',
      'happy (shipped): the letters []',
      'refused (refused): the goods: reserved, and not put back',
    ]);
  });

  it('undoes an order that fails when its parcels cannot be sent', async () => {
    const before = await stockOf('cup');
    await app.get(DataSource).query(`alter table shipment add constraint no_boats_there check (city <> 'Atlantis')`);
    await place(orderOf('nowhere', { city: 'Atlantis', lines: [{ sku: 'cup', quantity: 2 }] }));

    const { payment, shipments, runs } = await orderWith('nowhere', 'failed');

    expect(statusesIn(runs)).toMatchObject({ order: 'failed', payment: 'completed', 'parcel 1': 'failed' });
    expect(payment).toMatchObject({ status: 'refunded' });
    expect(shipments).toEqual([]);
    expect(await stockOf('cup')).toBe(before);
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
    const env = { ...process.env, DATABASE_URL: database.appUrl, INIT_CWD: folder };
    const child = spawn(process.execPath, [script, ...args], { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += String(chunk)));
    const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
    return { code, output };
  }

  it('survives the death of its worker, heeds the manager, cancels a family, and finds the books right', async () => {
    const orders = [
      ...Array.from({ length: 8 }, (_, index) => orderOf(`D-${index}`, index === 3 ? { card: 'tok_declined' } : {})),
      ...Array.from({ length: 3 }, (_, index) => largeOrderOf(`L-${index}`)),
    ];
    const file = await write('orders.json', JSON.stringify(orders));

    const { code, output } = await demo('--file', file);

    expect({ code, untrue: output.match(/NOT TRUE:.*(\n {4}.*)*/g) }).toEqual({ code: 0, untrue: null });
    expect(output).toMatch(/Worker process (\d+) was killed \(SIGKILL\) with [1-9]\d* orders under way\n/);
    expect(output).toMatch(/Shall order L-\d go ahead\? The manager says yes\n/);
    expect(output).toMatch(/Shall order L-\d go ahead\? The manager says no\n/);
    expect(output).toMatch(/Shall order L-\d go ahead\? The manager overlooks it\n/);
    expect(output).toMatch(
      /the manager refused\n(.*\n)*? +undo +StockService\.reserve +completed\n(.*\n)*? +undo +close +completed\n/,
    );
    expect(output).toMatch(/12 orders: 8 shipped(, 1 (payment declined|cancelled|refused|not approved in time)){4}\n/);
    expect(output).toMatch(/[├└]─ shipping +completed/);
    expect(output).toMatch(/[├└]─ shipping +cancelled/);
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
