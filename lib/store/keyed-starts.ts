import type { CancelResult } from '../engine/cancellation.js';
import type { NewRun, StartResult } from '../engine/new-run.js';
import { toSqlText } from '../engine/serialization.js';
import type { Canceller } from './canceller.js';
import type { Run } from './database.js';
import { attributesToRow, nullable } from './rows.js';
import type { Starts } from './starts.js';
import type { Statements } from './statements/all.js';

/** Others may take the key in between; after so many times something else is wrong. */
const MOST_TRIES = 10;

interface Holder {
  id: string;
  has_not_begun: boolean;
}

/**
 * Starts that change the run that has their key: they replace it, or delay it anew. The holder is locked first. When it lost the
 * key while its lock was waited for, or somebody else has taken it since, that is seen by the next try.
 */
export class KeyedStarts {
  constructor(
    private readonly sql: Statements,
    private readonly canceller: Canceller,
    private readonly starts: Starts,
  ) {}

  /** Inside a transaction of the caller's. Throws StartLimitError. */
  async replace(run: Run, newRun: NewRun): Promise<{ start: StartResult; cancelled: CancelResult | null }> {
    let cancelled: CancelResult | null = null;
    const start = await this.untilOurs(run, newRun, async (holder) => {
      await run(this.sql.releaseKey, [holder.id]);
      const reason = `replaced by run ${newRun.id}`;
      cancelled = await this.canceller.cancel(run, [holder.id], { reason, terminate: false });
      return undefined;
    });
    return { start, cancelled };
  }

  /** Inside a transaction of the caller's. Throws StartLimitError. */
  debounce(run: Run, newRun: NewRun): Promise<StartResult> {
    return this.untilOurs(run, newRun, async (holder) => {
      if (holder.has_not_begun) return this.delayAnew(run, holder.id, newRun);
      await run(this.sql.releaseKey, [holder.id]);
      return undefined;
    });
  }

  /** `deal` gives the result, or makes the key free. */
  private async untilOurs(
    run: Run,
    newRun: NewRun,
    deal: (holder: Holder) => Promise<StartResult | undefined>,
  ): Promise<StartResult> {
    await this.starts.admit(run, newRun);
    for (let tries = 0; tries < MOST_TRIES; tries++) {
      const [holder] = await run<Holder>(this.sql.lockHolder, [toSqlText(newRun.workflow), nullable(newRun.key)]);
      // Ours already: the reply to an earlier try was lost.
      const dealt = holder && holder.id !== newRun.id ? await deal(holder) : undefined;
      if (dealt) return dealt;
      const start = await this.starts.startAdmitted(run, newRun);
      if (start.id === newRun.id) return start;
    }
    throw new Error(
      `The key '${newRun.key}' of workflow '${newRun.workflow}' is taken again and again; start it once more`,
    );
  }

  private async delayAnew(run: Run, runId: string, newRun: NewRun): Promise<StartResult> {
    interface Row {
      id: string;
      status: StartResult['status'];
      input_digest: string;
      deadline: number | null;
      at: number;
    }
    const [row] = await run<Row>(this.sql.delayAnew, [
      runId,
      newRun.delayMs,
      newRun.timeoutMs,
      newRun.input,
      newRun.inputDigest,
      newRun.context,
      nullable(newRun.label),
      attributesToRow(newRun.attributes),
      newRun.trace,
    ]);
    const { id, status, input_digest: inputDigest, deadline, at } = row!;
    return { id, status, inputDigest, deadline, at, started: false, begins: false };
  }
}
