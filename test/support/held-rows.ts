import pg from 'pg';

import type { TestDatabase } from './database.js';
import { until } from './until.js';

/**
 * Rows of runs that a test holds locked, so that what wants to write them queues in the order that the test chooses.
 *
 * PostgreSQL grants a row in the order in which it was asked for, so `untilWaiting(1)`, then a second act, then
 * `untilWaiting(2)` and `release()` forces the first act to win.
 */
export class HeldRows {
  static readonly #held = new Set<HeldRows>();

  private constructor(
    private readonly holder: pg.Client,
    private readonly observer: pg.Client,
  ) {}

  static async hold(database: TestDatabase, ...runIds: string[]): Promise<HeldRows> {
    const holder = await connect(database);
    const held = new HeldRows(holder, await connect(database));
    HeldRows.#held.add(held);
    await holder.query('begin');
    await holder.query('select from orchestration.run where id = any($1) order by id for update', [runIds]);
    return held;
  }

  /** Resolves when so many connections wait for a lock. */
  async untilWaiting(count: number): Promise<void> {
    await until(`${count} connections wait for a lock`, async () => {
      const { rows } = await this.observer.query<{ waiting: number }>(
        `select count(*)::int as waiting from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
      );
      return rows[0]!.waiting >= count;
    });
  }

  /** For `afterEach`: what a test that failed still holds. */
  static async releaseAll(): Promise<void> {
    for (const held of HeldRows.#held) await held.release();
  }

  async release(): Promise<void> {
    if (!HeldRows.#held.delete(this)) return;
    await this.holder.query('rollback');
    await Promise.all([this.holder.end(), this.observer.end()]);
  }
}

async function connect(database: TestDatabase): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  return client;
}
