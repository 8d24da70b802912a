import { setTimeout as delay } from 'node:timers/promises';

import type { PlacedOrder } from '../orders/placed-order.js';
import type { DemoShop } from './demo-shop.js';
import type { Manager } from './manager.js';
import { drawProgress, isUnderWay } from './progress.js';
import type { Stage } from './report.js';
import { seconds } from './seconds.js';
import { isBySlowBoat } from './slow-boats.js';

/** All orders of a file come in within this time, or faster. */
const OPENING_HOURS_MS = 6_000;
const LONGEST_PAUSE_MS = 100;

/** The orders come in and the manager answers; a third of the way the worker is killed, and another one goes on. */
export class OrderRush {
  /** The orders that were under way when the worker was killed. */
  readonly caught: string[] = [];

  constructor(
    private readonly shop: DemoShop,
    private readonly manager: Manager,
    private readonly orders: PlacedOrder[],
  ) {}

  /** Ends when every order has ended, or is paid and goes by slow boat. */
  async run(stage: Stage): Promise<string> {
    await Promise.all([this.placeOrders(), this.watch(stage), this.crash(stage)]);
    return this.draw();
  }

  private async placeOrders(): Promise<void> {
    const pause = Math.min(LONGEST_PAUSE_MS, OPENING_HOURS_MS / this.orders.length);
    for (const order of this.orders) {
      await this.shop.orders.place(order);
      await delay(pause);
    }
  }

  private async watch(stage: Stage): Promise<void> {
    await this.shop.waitUntilNone(async () => {
      await this.manager.answer(stage.note);
      stage.progress(await this.draw());
      return (await this.listOpen()).length;
    });
  }

  private async crash(stage: Stage): Promise<void> {
    const untouched = Math.ceil((await this.listOpen()).length * (2 / 3));
    await this.shop.waitUntilNone(async () => Math.max((await this.listOpen()).length - untouched, 0));
    this.caught.push(...(await this.listUnderWay()));

    const dead = await this.shop.killWorker();
    const killedAt = Date.now();
    stage.note(`Worker process ${dead} was killed (SIGKILL) with ${this.caught.length} orders under way`);
    const heir = await this.shop.startWorker();
    stage.note(`Worker process ${heir} has started; it may take over once the lease of the dead one has run out`);

    await this.shop.waitUntilNone(async () => (await this.listOpen()).filter((id) => this.isInHand(id)).length);
    stage.note(`What the dead worker had in hand is done, ${seconds(Date.now() - killedAt)} after its death`);
  }

  /** What the manager overlooks waits for its deadline, and for no worker. */
  private isInHand(id: string): boolean {
    return this.caught.includes(id) && this.manager.decisions.get(id) !== 'overlooked';
  }

  /** The orders that are still to end, or to come in. */
  private async listOpen(): Promise<string[]> {
    const statuses = await this.shop.statuses();
    return this.orders
      .filter((order) => isUnderWay(statuses.get(order.id)))
      .filter((order) => !(isBySlowBoat(order) && statuses.get(order.id) === 'paid'))
      .map(({ id }) => id);
  }

  private async listUnderWay(): Promise<string[]> {
    return [...(await this.shop.statuses())].filter(([, status]) => isUnderWay(status)).map(([id]) => id);
  }

  private async draw(): Promise<string> {
    return drawProgress([...(await this.shop.statuses()).values()], this.orders.length);
  }
}
