import { CancelledError } from '../engine/errors.js';
import { fromSqlText, type PayloadSerializer } from '../engine/serialization.js';
import type { CancelRequest, CancelResult } from '../engine/cancellation.js';
import type { Run } from './database.js';
import { nullable, wokenFromRow, type WokenRow } from './rows.js';
import type { Statements } from './statements/all.js';

interface ReachedRow extends WokenRow {
  watched: boolean;
  workflow: string;
  parent_id: string | null;
  root_id: string;
  ended_at: number;
}

/**
 * Cancellation of whole families. Rounds are repeated until one reaches nobody, because the lock of a round may have
 * waited for a run that was just starting a child; once reached, a run can start no more.
 */
export class Canceller {
  constructor(
    private readonly sql: Statements,
    private readonly serializer: PayloadSerializer,
  ) {}

  /** Runs inside a transaction of the caller's. */
  async cancel(run: Run, runIds: readonly string[], { reason, terminate }: CancelRequest): Promise<CancelResult> {
    const found = await run(this.sql.findRuns, [runIds]);
    const error = this.serializer.encodeError(new CancelledError(reason ?? undefined));
    const reached: ReachedRow[] = [];
    for (;;) {
      const round = await run<ReachedRow>(this.sql.requestCancel, [runIds, nullable(reason), error, terminate]);
      if (round.length === 0) break;
      reached.push(...round);
    }
    const ended = reached.filter((row) => row.status === 'cancelled').map(endedFromRow);
    const unwinding = reached.filter((row) => row.status !== 'cancelled').map(wokenFromRow);
    const woken = ended.length
      ? (await run<WokenRow>(this.sql.wakeThoseWhoWaitFor, [ended.map(({ id }) => id)])).map(wokenFromRow)
      : [];
    return { found: found.length > 0, ended, unwinding, woken };
  }
}

function endedFromRow(row: ReachedRow): CancelResult['ended'][number] {
  const { id, watched, workflow, parent_id, root_id, ended_at } = row;
  return { id, watched, workflow: fromSqlText(workflow), parentId: parent_id, rootId: root_id, at: ended_at };
}
