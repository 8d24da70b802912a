/** The longest delay that setTimeout keeps; a longer one would fire at once. */
export const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** One local timer that can be set again: it calls back at or after a point of time, however far. */
export class DeadlineTimer {
  private timeout: NodeJS.Timeout | undefined;

  constructor(private readonly callback: () => void) {}

  set(delayMs: number): void {
    this.clear();
    const wait = Math.min(Math.max(0, Math.ceil(delayMs)), LONGEST_TIMER_MS);
    this.timeout = setTimeout(() => (delayMs > wait ? this.set(delayMs - wait) : this.callback()), wait);
  }

  clear(): void {
    clearTimeout(this.timeout);
  }
}
