import type { HintChannel, Hints } from '../engine/hints.js';
import type { Database, Run } from './database.js';
import type { Statements } from './statements/all.js';
import { hintChannel } from './statements/statement.js';
import { WakeUpListener } from './wake-up-listener.js';

/** pg_notify takes 8,000 bytes. */
const LARGEST_HINT = 150;

/** Hints by NOTIFY and LISTEN. A hint is worth no trouble: whoever waits for it looks by itself after a while. */
export class NotifyChannel implements HintChannel {
  isHeard = true;
  private readonly channel: string;
  private listener: WakeUpListener;

  constructor(
    private readonly database: Database,
    private readonly sql: Statements,
  ) {
    this.channel = hintChannel(database.schema);
    this.listener = new WakeUpListener(database, this.channel, () => database.connect());
  }

  /** `listenUrl`: the database itself, where the pool goes through a pooler. Warns when nothing can be heard. */
  async listen(listenUrl: string | undefined, warn: (message: string) => void): Promise<void> {
    const { database } = this;
    this.isHeard = await this.listener.start();
    database.isPooled = !this.isHeard;
    if (this.isHeard && listenUrl === undefined) return;
    this.listener.close();
    if (listenUrl === undefined) return warn(pollsOnly(database.address));
    this.listener = this.listener.over(() => database.connectTo(listenUrl));
    this.isHeard = await this.listener.start();
    if (!this.isHeard) warn('listenUrl is not a direct connection to the database: ' + pollsOnly('listenUrl'));
  }

  onHints(listener: (hints: Hints) => void): void {
    this.listener.onHints(listener);
  }

  async announce({ queues, workers, ended, gates }: Hints): Promise<void> {
    for (let from = 0; from === 0 || from < ended.length; from += LARGEST_HINT) {
      const hints = from === 0 ? { queues, workers, gates } : {};
      await this.quietly({ ...hints, ended: ended.slice(from, from + LARGEST_HINT) });
    }
  }

  /** A run has judged an answer. */
  announceVerdict(runId: string): Promise<void> {
    return this.quietly({ judged: [runId] });
  }

  /** Told by the commit of that transaction, for a hint that left earlier would find nothing. */
  async announceAtCommit(run: Run, hints: Partial<Hints>): Promise<void> {
    await this.notify(run, hints);
  }

  close(): void {
    this.listener.close();
  }

  private async quietly(hints: Partial<Hints>): Promise<void> {
    await this.notify(this.database.run, hints).catch(() => {});
  }

  private notify(run: Run, hints: Partial<Hints>): Promise<unknown> {
    return run(this.sql.announce, [this.channel, JSON.stringify(hints)]);
  }
}

function pollsOnly(address: string): string {
  return (
    `No notification came through the connection to ${address}, as behind a pooler in transaction mode. Everything works, but what other ` +
    'processes do is found by looking, up to a pollInterval later. Give listenUrl a direct connection to be told at once.'
  );
}
