/** Where a test holds the code under test: the code says that it is there, and goes on when the test lets it. */
export class Barrier {
  #arrived = 0;
  #isOpen = false;
  readonly #arrivals: (() => void)[] = [];
  readonly #held: (() => void)[] = [];

  /** How often the code has come here. */
  get arrived(): number {
    return this.#arrived;
  }

  /** For the code: resolves when the test opens the barrier. */
  async pass(): Promise<void> {
    this.#arrived++;
    for (const notice of this.#arrivals) notice();
    if (!this.#isOpen) await new Promise<void>((resolve) => this.#held.push(resolve));
  }

  /** For the test: resolves when the code has come here so often. */
  async reached(times = 1): Promise<void> {
    while (this.#arrived < times) await new Promise<void>((resolve) => this.#arrivals.push(resolve));
  }

  /** For the test: lets go on whoever is here or comes later. */
  open(): void {
    this.#isOpen = true;
    for (const release of this.#held.splice(0)) release();
  }
}
