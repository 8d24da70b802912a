import { createHash } from 'node:crypto';

/** Random bytes that follow from a seed: the same in every replay, in every process and Node version. */
export class DeterministicSource {
  private counter = 0;

  constructor(private readonly seed: string) {}

  bytes(): Buffer {
    return createHash('sha256').update(`${this.seed}:${this.counter++}`).digest();
  }
}
