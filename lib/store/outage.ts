/** Shorter ones are not told: a connection that broke, a failover that nobody felt. */
const UNTOLD_MS = 1_000;

export interface OutageLog {
  warn(message: string): void;
  log(message: string): void;
}

/**
 * Whether the database can be used, as those see it who try their work until it succeeds. It is told when that changes, whatever
 * the number of those who try: one line when it cannot, one when it can again.
 */
export class Outage {
  private log: OutageLog | undefined;
  private since: number | undefined;
  private isTold = false;
  private answeredAt = -Infinity;
  private readonly failing = new Set<object>();
  /** Why it could not be used when it was tried last. */
  private reason = '';

  constructor(private readonly address: string) {}

  tellTo(log: OutageLog): void {
    this.log = log;
  }

  /** `work` failed, sent at that time. One that others have overtaken says nothing of the database. */
  failed(work: object, sentAt: number, error: unknown): void {
    if (this.answeredAt > sentAt) return;
    this.failing.add(work);
    this.reason = reasonOf(error);
    this.since ??= this.begins(sentAt);
    if (performance.now() - this.since >= UNTOLD_MS) this.tell();
  }

  /** It is told in time even when nothing is tried in that moment: the pauses between two tries get long. */
  private begins(since: number): number {
    const tellUnlessOver = () => {
      const isOver = this.since !== since || this.answeredAt > since || this.failing.size === 0;
      if (!isOver) this.tell();
    };
    setTimeout(tellUnlessOver, since + UNTOLD_MS - performance.now()).unref();
    return since;
  }

  private tell(): void {
    if (this.isTold) return;
    this.isTold = true;
    this.log?.warn(
      `The database at ${this.address} cannot be used: ${this.reason}. Everything is tried again until it can; nothing has to be restarted.`,
    );
  }

  /** What only reads gets its answers from a read-only database: it is over when what had failed succeeds. */
  succeeded(work: object): void {
    this.answeredAt = performance.now();
    const hadFailed = this.failing.delete(work);
    if (this.since === undefined || (!hadFailed && this.failing.size > 0)) return;
    if (this.isTold)
      this.log?.log(
        `The database at ${this.address} can be used again, after ${((this.answeredAt - this.since) / 1_000).toFixed(1)} s.`,
      );
    this.since = undefined;
    this.isTold = false;
  }

  /** `work` is not tried any more. */
  gaveUp(work: object): void {
    this.failing.delete(work);
  }
}

/** Of a name with several addresses, an attempt at each fails, and the error of all has no message. */
function reasonOf(error: unknown): string {
  const { message, code } = error as { message?: string; code?: string };
  return message || code || String(error);
}
