import { setTimeout as delay } from 'node:timers/promises';
import type { PoolClient } from 'pg';
import type { Hints } from '../engine/store.js';
import type { Database } from './database.js';
import { quoteIdentifier } from './statements/statement.js';

const RECONNECT_PAUSE_MS = { first: 100, longest: 5_000 };

/**
 * Hints of other processes, by LISTEN on a connection of its own. Only hints: while the connection is lost they are too,
 * and the workers' regular look finds what they missed.
 */
export class WakeUpListener {
  private readonly listeners: ((hints: Hints) => void)[] = [];
  private client: PoolClient | undefined;
  private isClosed = false;

  constructor(
    private readonly database: Database,
    private readonly channel: string,
  ) {}

  onHints(listener: (hints: Hints) => void): void {
    this.listeners.push(listener);
  }

  async start(): Promise<void> {
    await this.listen();
  }

  close(): void {
    this.isClosed = true;
    this.client?.release(true);
    this.client = undefined;
  }

  private async listen(): Promise<void> {
    const client = await this.database.connect();
    if (this.isClosed) return client.release(true);
    this.client = client;
    client.on('notification', ({ payload }) => this.heard(payload));
    const lost = () => this.lost(client);
    client.once('error', lost);
    client.once('end', lost);
    await client.query(`listen ${quoteIdentifier(this.channel)}`);
  }

  private lost(client: PoolClient): void {
    if (this.client !== client || this.isClosed) return;
    this.client = undefined;
    client.on('error', () => {});
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
    const hints = JSON.parse(payload || '{}') as Partial<Hints>;
    const { queues = [], workers = [], ended = [], judged = [], gates = [] } = hints;
    for (const listener of this.listeners) listener({ queues, workers, ended, judged, gates });
  }
}
