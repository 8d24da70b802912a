import type { RunTree } from 'nestjs-orchestration';

import { ReceivedCall } from '../external/received-call.entity.js';
import type { PlacedOrder } from '../orders/placed-order.js';
import { audit } from './audit.js';
import type { DemoShop } from './demo-shop.js';
import { drawFamily, sizeOf } from './family-tree.js';
import { drawHistory } from './history-table.js';
import { Manager } from './manager.js';
import { OrderRush } from './order-rush.js';
import { countEach } from './progress.js';
import type { Report } from './report.js';
import { seconds } from './seconds.js';
import { cancelAtSea } from './slow-boats.js';

/** Tells the story: orders come in, the worker dies, another takes over, a manager answers, one order is cancelled, the books are right. */
export class Demo {
  private readonly manager: Manager;

  constructor(
    private readonly shop: DemoShop,
    private readonly report: Report,
    private readonly orders: PlacedOrder[],
  ) {
    this.manager = new Manager(shop.approvals);
  }

  /** Returns whether everything was as it should be. */
  async run(): Promise<boolean> {
    const startedAt = Date.now();
    const caught = await this.handleOrders();
    await this.showFamily(caught.length > 0 ? caught : this.orders.map(({ id }) => id));
    await this.showRefusal();
    await this.cancelOne();
    const isSound = await this.checkBooks();
    await this.summarise();
    if (isSound) this.report.passed(`Every order ended exactly once, in ${seconds(Date.now() - startedAt)}`);
    else this.report.failed('The books are wrong, see above');
    return isSound;
  }

  /** Returns the orders that were under way when the worker died. */
  private async handleOrders(): Promise<string[]> {
    const rush = new OrderRush(this.shop, this.manager, this.orders);
    this.report.heading(`${this.orders.length} orders, a manager, one crash`);
    await this.report.stage(
      'The orders come in',
      (stage) => rush.run(stage),
      (progress) => progress,
    );
    return rush.caught;
  }

  /** The largest of some families. */
  private async showFamily(ids: string[]): Promise<void> {
    const statuses = await this.shop.statuses();
    const shipped = ids.filter((id) => statuses.get(id) === 'shipped').slice(0, 20);
    const families = await Promise.all(shipped.map((id) => this.shop.familyOf(id)));
    const [largest] = families.sort((one, other) => sizeOf(other) - sizeOf(one));
    if (!largest) return;
    this.report.heading('One of the families that the crash had caught');
    this.drawFamily(largest);
  }

  private async showRefusal(): Promise<void> {
    const [refused] = [...this.manager.decisions].find(([, decision]) => decision === 'refused') ?? [];
    if (refused === undefined) return;
    this.report.heading(`What became of ${refused}, which the manager refused`);
    const { history } = await this.shop.orders.get(refused);
    for (const line of drawHistory(history)) this.report.line(line);
  }

  private async cancelOne(): Promise<void> {
    this.report.heading('A cancellation');
    const { family } = await this.report.stage(
      'An order is cancelled',
      () => cancelAtSea(this.shop, this.orders),
      ({ summary }) => summary,
    );
    if (family) this.drawFamily(family);
  }

  private drawFamily(root: RunTree): void {
    for (const line of drawFamily(root)) this.report.line(line);
  }

  private async checkBooks(): Promise<boolean> {
    this.report.heading('The books');
    await this.report.stage(
      'The last e-mails leave',
      () => this.shop.waitUntilNone(() => this.shop.countActiveRuns()),
      () => 'no run is left over',
    );
    const findings = await audit(this.shop.dataSource, this.orders, this.manager.decisions);
    for (const { claim, problems } of findings) {
      if (problems.length === 0) this.report.passed(claim);
      else this.report.failed([`NOT TRUE: ${claim}`, ...problems.map((problem) => `    ${problem}`)].join('\n'));
    }
    return findings.every(({ problems }) => problems.length === 0);
  }

  private async summarise(): Promise<void> {
    const statuses = [...(await this.shop.statuses()).values()];
    const calls = await this.shop.dataSource.getRepository(ReceivedCall).find();
    const failed = calls.filter(({ answer }) => answer !== 'answered').length;
    const late = calls.filter(({ answer }) => answer === 'failed after the work').length;
    const repeated = calls.length - new Set(calls.map(({ idempotencyKey }) => idempotencyKey)).size;
    this.report.heading('In short');
    this.report.line(`  ${statuses.length} orders: ${countEach(statuses)}`);
    this.report.line(
      `  ${calls.length} calls to the payment provider and the mailer, of which ${repeated} were repeats:`,
    );
    this.report.line(`  ${failed} calls failed, ${late} of them after the work was done`);
  }
}
