import type { INestApplication } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Orchestrator, type RunTree } from 'nestjs-orchestration';
import type { AddressInfo } from 'node:net';
import type { Server } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { DataSource } from 'typeorm';

import { AppModule } from '../app.module.js';
import { ApprovalsService } from '../orders/approvals.service.js';
import { Order, type OrderStatus } from '../orders/order.entity.js';
import { OrdersService } from '../orders/orders.service.js';
import { DemoDatabase, RUNS_SCHEMA, SHOP_SCHEMA } from './demo-database.js';
import { WorkerProcess } from './worker-process.js';

/** The lease of the workers, short so that a takeover is quick. */
const LEASE = '2s';
const APPROVAL_DEADLINE = '5s';
const POLL_MS = 100;
const STANDSTILL_MS = 30_000;

/**
 * The shop of a demo. This process takes the orders, and plays the payment provider and the mailer; it runs no workflow.
 * That is left to a worker process, which can die.
 */
export class DemoShop {
  private constructor(
    /** On which database it is, and who works in it. */
    readonly description: string,
    private readonly database: DemoDatabase,
    private readonly app: INestApplication,
    private worker: WorkerProcess | undefined,
  ) {}

  static async open(): Promise<DemoShop> {
    const database = await DemoDatabase.open();
    try {
      const settings = {
        DATABASE_URL: database.url,
        SHOP_SCHEMA,
        SHOP_RUNS_SCHEMA: RUNS_SCHEMA,
        SHOP_LEASE: LEASE,
        SHOP_APPROVAL_DEADLINE: APPROVAL_DEADLINE,
      };
      Object.assign(process.env, settings, { SHOP_WORKER: 'off' });
      const app = await NestFactory.create(AppModule, { abortOnError: false, logger: ['error', 'fatal'] });
      await app.listen(0, '127.0.0.1');
      const { port } = (app.getHttpServer() as Server).address() as AddressInfo;
      process.env.EXTERNAL_SERVICES_URL = `http://127.0.0.1:${port}`;
      const worker = await WorkerProcess.start();
      const description = `The shop is open, on ${await database.describe()}; worker process ${worker.pid} is at work`;
      return new DemoShop(description, database, app, worker);
    } catch (error) {
      await database.close();
      throw error;
    }
  }

  get orders(): OrdersService {
    return this.app.get(OrdersService);
  }

  get approvals(): ApprovalsService {
    return this.app.get(ApprovalsService);
  }

  private get orchestrator(): Orchestrator {
    return this.app.get(Orchestrator);
  }

  get dataSource(): DataSource {
    return this.app.get(DataSource);
  }

  /** Starts a worker process and gives its pid. */
  async startWorker(): Promise<number> {
    this.worker = await WorkerProcess.start();
    return this.worker.pid;
  }

  /** Kills the worker process, as a machine that loses its power would, and gives its pid. */
  async killWorker(): Promise<number | undefined> {
    const { worker } = this;
    this.worker = undefined;
    await worker?.kill();
    return worker?.pid;
  }

  /** The run of an order with all runs that it started. */
  async familyOf(orderId: string): Promise<RunTree> {
    return (await this.orders.get(orderId)).runs;
  }

  async countActiveRuns(): Promise<number> {
    const { items } = await this.orchestrator.list({
      status: ['pending', 'running', 'waiting', 'blocked'],
      limit: 1_000,
    });
    return items.length;
  }

  async statuses(): Promise<Map<string, OrderStatus>> {
    const orders = await this.dataSource.getRepository(Order).find({ select: { id: true, status: true } });
    return new Map(orders.map(({ id, status }) => [id, status]));
  }

  /**
   * Counts again and again until there is none left.
   * @throws Error when the worker process has died by itself, or the count has not changed for long
   */
  async waitUntilNone(count: () => Promise<number>): Promise<void> {
    let left = Number.NaN;
    let changedAt = Date.now();
    while (left !== 0) {
      const before = left;
      left = await count();
      if (left !== before) changedAt = Date.now();
      if (Date.now() - changedAt > STANDSTILL_MS) throw new Error(`The shop stands still; it waits for ${left} more`);
      this.worker?.expectAlive();
      await delay(POLL_MS);
    }
  }

  async close(): Promise<void> {
    await this.worker?.stop();
    await this.app.close();
    await this.database.close();
  }
}
