import type { Engine } from './engine.js';
import { ValidationError } from './errors.js';
import { type QueueLimits, type QueueState, toStoredLimits } from './queue-limits.js';

/** `orchestrator.queues`: what is waiting where, and what may run. Changes hold at once, over the whole fleet. */
export class Queues {
  constructor(private readonly engine: () => Promise<Engine>) {}

  /** Every queue that has limits, is paused or has runs that are not finished. */
  async list(): Promise<QueueState[]> {
    return (await this.engine()).store.queues.list();
  }

  /** Nothing is claimed from the queue until {@link resume}: no first start and no wake-up. What is running goes on. */
  async pause(name: string): Promise<void> {
    await this.change(name, (engine) => engine.store.queues.setPaused(named(name), true));
  }

  async resume(name: string): Promise<void> {
    await this.change(name, (engine) => engine.store.queues.setPaused(named(name), false));
  }

  /**
   * Sets the limits of a queue, instead of those that the configuration of the app says, until {@link reset}. `{}`: no limits.
   * @throws ValidationError
   */
  async configure(name: string, limits: QueueLimits): Promise<void> {
    const stored = toStoredLimits(named(name), limits);
    await this.change(name, (engine) => engine.store.queues.override(name, stored));
  }

  /** Back to the limits that the configuration of the app says. */
  async reset(name: string): Promise<void> {
    await this.change(name, (engine) => engine.store.queues.override(named(name), null));
  }

  private async change(name: string, make: (engine: Engine) => Promise<void>): Promise<void> {
    const engine = await this.engine();
    await make(engine);
    engine.queueChanged(name);
  }
}

function named(name: string): string {
  if (typeof name === 'string' && name !== '') return name;
  throw new ValidationError('The name of a queue', [
    { message: `must be a text that is not empty, not ${JSON.stringify(name)}` },
  ]);
}
