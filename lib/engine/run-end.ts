import { CancelledError } from './errors.js';
import type { PayloadSerializer } from './serialization.js';
import type { ClaimedRun } from './claimed-run.js';
import type { CommittedRun, Move, RunWrite } from './run-write.js';
import type { RunEnd } from './store.js';

/** How the code of a run ended. */
export type Returned = { value: unknown } | { error: unknown };

/** How the code of a run ended: it may also have asked to begin anew. */
export type CodeEnd = Returned | { nextInput: string | null };

/** The move that ends a run whose code has returned or thrown. */
export function moveOfReturn(returned: CodeEnd, workflow: string, serializer: PayloadSerializer): Move {
  if ('error' in returned) return failure(returned.error, serializer);
  if ('nextInput' in returned) return { to: 'continued', input: returned.nextInput };
  try {
    return { to: 'completed', output: serializer.encode(returned.value, `the output of workflow '${workflow}'`) };
  } catch (error) {
    return failure(error, serializer);
  }
}

export function failure(error: unknown, serializer: PayloadSerializer): Move {
  return { to: 'failed', error: serializer.encodeError(error) };
}

/** A cancelled run ends cancelled whatever its code does; an error of its clean-up is kept as the cause. */
export function cancelledBy(
  cancelled: CancelledError,
  returned: CodeEnd | undefined,
  serializer: PayloadSerializer,
): Move {
  return { to: 'cancelled', error: cancellationOf(cancelled, returned, serializer) };
}

/** The stored error of what was cancelled: its code ended in that way. */
export function cancellationOf(
  cancelled: CancelledError,
  returned: CodeEnd | undefined,
  serializer: PayloadSerializer,
): string {
  const cause =
    returned && 'error' in returned && !(returned.error instanceof CancelledError) ? returned.error : undefined;
  return serializer.encodeError(cause ? Object.assign(new CancelledError(cancelled.reason), { cause }) : cancelled);
}

function endsRun(move: Move): move is Exclude<Move, { to: 'waiting' | 'blocked' | 'continued' }> {
  return move.to !== 'waiting' && move.to !== 'blocked' && move.to !== 'continued';
}

/** The end that a move has given a run, if it is one. */
export function endOf(run: Pick<ClaimedRun, 'id' | 'workflow'>, move: Move | null): RunEnd | undefined {
  if (!move || !endsRun(move)) return undefined;
  const output = move.to === 'completed' ? move.output : null;
  const error = move.to === 'completed' ? null : move.error;
  return { id: run.id, workflow: run.workflow, status: move.to, output, error, endedAt: null };
}

/** The ends of runs for those parents that wait for them. */
export function endsByParent(writes: readonly RunWrite[]): Map<string, RunEnd[]> {
  const ends = new Map<string, RunEnd[]>();
  for (const { runId, workflow, parentId, move } of writes) {
    const end = endOf({ id: runId, workflow }, move);
    if (!end || parentId === null) continue;
    const others = ends.get(parentId);
    if (others) others.push(end);
    else ends.set(parentId, [end]);
  }
  return ends;
}

/** The parent that is waiting for the end that the write makes, or may make: null when there is none. */
export function parentToWake({ parentId, move }: Pick<RunWrite, 'parentId' | 'move'>): string | null {
  return move !== null && move.to !== 'waiting' ? parentId : null;
}

/** Whether the run has moved as its write says: what happened before it may have kept it where it was. */
export function hasMoved({ to }: Move, run: CommittedRun): boolean {
  return to === 'continued' ? run.next !== undefined : run.status === to;
}

/** What became of a write to whose run nothing else has happened. */
export function movedAsAsked({ runId, move, seenWakes }: RunWrite): CommittedRun {
  const status = move && move.to !== 'continued' ? move.to : 'running';
  return { id: runId, status, wakes: seenWakes, cancel: null, watched: false, next: undefined };
}
