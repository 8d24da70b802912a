/** Why queues are measured with single jobs alone. */
const reason = 'a queue: jobs without durable steps';

export const NO_STEPS = {
  tenSteps: reason,
  parentChild: reason,
  fanOut: reason,
  park: reason,
  payload: reason,
  longRun: reason,
  doomed: reason,
  ended: 'a job is only told of where it is handled',
};

/** Tells those who wait for a job that its handler has run. */
export class Handled {
  private readonly waiting = new Map<string, () => void>();

  wait(id: string): Promise<void> {
    return new Promise((resolve) => this.waiting.set(id, resolve));
  }

  tell(id: string): void {
    this.waiting.get(id)?.();
    this.waiting.delete(id);
  }
}
