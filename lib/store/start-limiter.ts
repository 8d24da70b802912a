import type { DatabaseClock } from '../engine/clock.js';
import { StartLimitError } from '../engine/errors.js';
import { fromSqlText, toSqlText } from '../engine/serialization.js';
import type { Run } from './database.js';
import { leastIdAt } from './least-id.js';
import type { Statements } from './statements/all.js';

/** Ids carry the time of the host that made them; of one whose clock is further behind, starts are not counted. */
const CLOCK_TOLERANCE_MS = 120_000;

/** A run that may have to be counted. */
interface Counted {
  tenant: string | null;
}

export interface StartLimit {
  limit: number;
  perMs: number;
}

/** How many runs a tenant may start in any stretch of time. */
export class StartLimiter {
  constructor(
    private readonly sql: Statements,
    private readonly clock: DatabaseClock,
    private readonly schema: string,
    readonly limit: StartLimit | undefined,
  ) {}

  /** Whether any of these starts has to be counted. */
  concerns(runs: readonly Counted[]): boolean {
    return this.limit !== undefined && runs.some(({ tenant }) => tenant !== null);
  }

  /** Until the transaction ends, nobody else starts runs of these tenants: so what is counted next stays true. */
  async lock(run: Run, runs: readonly Counted[]): Promise<void> {
    await run(this.sql.lockTenants, [`${this.schema}/`, tenantsOf(runs)]);
  }

  /** Those of the runs that the limit does not allow, and what to tell those who start them. */
  async refusals<T extends Counted>(run: Run, runs: readonly T[]): Promise<Map<T, StartLimitError>> {
    const refused = new Map<T, StartLimitError>();
    if (!this.limit) return refused;
    const { limit, perMs } = this.limit;
    const leastId = leastIdAt(this.clock.now() - perMs - CLOCK_TOLERANCE_MS);
    const rows = await run<{ tenant: string; starts: number; earliest: number | null }>(this.sql.countStarts, [
      tenantsOf(runs),
      perMs,
      limit,
      leastId,
    ]);
    const used = new Map(rows.map((row) => [fromSqlText(row.tenant), row]));
    for (const newRun of runs) {
      const tenant = newRun.tenant === null ? undefined : used.get(newRun.tenant);
      if (!tenant) continue;
      if (tenant.starts < limit) tenant.starts++;
      else refused.set(newRun, new StartLimitError(newRun.tenant!, limit, perMs, this.freeIn(tenant.earliest, perMs)));
    }
    return refused;
  }

  private freeIn(earliest: number | null, perMs: number): number {
    return earliest === null ? perMs : earliest + perMs - this.clock.now();
  }
}

function tenantsOf(runs: readonly Counted[]): string[] {
  return [...new Set(runs.flatMap(({ tenant }) => (tenant === null ? [] : [toSqlText(tenant)])))];
}
