import { setTimeout as delay } from 'node:timers/promises';
import type { Notification } from 'pg';
import { v4 as uuid } from 'uuid';
import type { Hints } from '../engine/hints.js';
import type { Database } from './database.js';
import { quoteIdentifier } from './statements/statement.js';

/** How long a notification to oneself may take before the connection is known to deliver none. */
const SELF_TEST_MS = 1_000;
const RECONNECT_PAUSE_MS = { first: 100, longest: 5_000 };

/** A connection to listen on, of the pool or of its own. */
export interface ListeningClient {
  on(event: 'notification', listener: (notification: Notification) => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
  once(event: 'error' | 'end', listener: () => void): unknown;
  query(text: string): Promise<unknown>;
  /** Gives it back to the pool, or ends it. */
  release(destroy: boolean): void;
}

/**
 * Hints of other processes, by LISTEN on a connection of its own. Only hints: while the connection is lost they are too,
 * and the workers' regular look finds what they missed.
 */
export class WakeUpListener {
  private readonly listeners: ((hints: Hints) => void)[] = [];
  private client: ListeningClient | undefined;
  private isClosed = false;
  private onToken: ((token: string) => void) | undefined;

  constructor(
    private readonly database: Database,
    private readonly channel: string,
    private readonly connect: () => Promise<ListeningClient>,
  ) {}

  onHints(listener: (hints: Hints) => void): void {
    this.listeners.push(listener);
  }

  /** Listens. Resolves to whether anything is heard: behind a pooler in transaction mode nothing ever is. */
  async start(): Promise<boolean> {
    await this.listen();
    const token = uuid();
    let timer: NodeJS.Timeout | undefined;
    const heard = new Promise<boolean>((resolve) => {
      timer = setTimeout(() => resolve(false), SELF_TEST_MS);
      this.onToken = (seen) => seen === token && resolve(true);
    });
    await this.database.notify(this.channel, JSON.stringify({ token }));
    const isHeard = await heard;
    clearTimeout(timer);
    this.onToken = undefined;
    return isHeard;
  }

  /** The same over another connection. */
  over(connect: () => Promise<ListeningClient>): WakeUpListener {
    const other = new WakeUpListener(this.database, this.channel, connect);
    other.listeners.push(...this.listeners);
    return other;
  }

  close(): void {
    this.isClosed = true;
    this.client?.release(true);
    this.client = undefined;
  }

  /** A connection that breaks before it listens is given up by who tried; only a later loss begins to reconnect. */
  private async listen(): Promise<void> {
    const client = await this.connect();
    // An error after the first, which a broken connection may tell, must not end the process.
    client.on('error', () => {});
    try {
      await client.query(`listen ${quoteIdentifier(this.channel)}`);
    } catch (error) {
      client.release(true);
      throw error;
    }
    if (this.isClosed) return client.release(true);
    this.client = client;
    client.on('notification', ({ payload }) => this.heard(payload));
    const lost = () => this.lost(client);
    client.once('error', lost);
    client.once('end', lost);
  }

  private lost(client: ListeningClient): void {
    if (this.client !== client || this.isClosed) return;
    this.client = undefined;
    client.release(true);
    void this.reconnect();
  }

  private async reconnect(): Promise<void> {
    for (
      let pause = RECONNECT_PAUSE_MS.first;
      !this.isClosed;
      pause = Math.min(2 * pause, RECONNECT_PAUSE_MS.longest)
    ) {
      await delay(pause, undefined, { ref: false });
      if (this.isClosed) return;
      try {
        return await this.listen();
      } catch {
        // The database is still away; the regular look says so.
      }
    }
  }

  private heard(payload: string | undefined): void {
    const { token, ...hints } = JSON.parse(payload || '{}') as Partial<Hints> & { token?: string };
    if (token) return this.onToken?.(token);
    const { queues = [], workers = [], ended = [], judged = [], gates = [] } = hints;
    for (const listener of this.listeners) listener({ queues, workers, ended, judged, gates });
  }
}
