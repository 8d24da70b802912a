import { createHash } from 'node:crypto';

/** Random bytes that follow from a seed: the same in every replay, in every process and Node version. */
export class DeterministicSource {
  private counter = 0;

  /** The seed is asked for at each draw: in a shared history it changes on the way. */
  constructor(private readonly seed: () => string) {}

  bytes(): Buffer {
    return createHash('sha256').update(`${this.seed()}:${this.counter++}`).digest();
  }
}
