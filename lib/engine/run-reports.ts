import { displayKey, ownerOf } from './command.js';
import type { EventSink, RunEvent } from './events.js';
import type { TerminalStatus } from './run.js';
import type { CancelResult } from './cancellation.js';
import type { ClaimedRun } from './claimed-run.js';
import type { RecordedOutcome } from './recorded-run.js';
import type { RunWrite } from './run-write.js';

type ReportedRun = Pick<ClaimedRun, 'id' | 'workflow' | 'parentId' | 'rootId'>;

/** Events of what a worker has committed; nothing is made while nobody listens. */
export function reportStart(events: EventSink, run: ClaimedRun): void {
  if (events.observed) events.next(eventOf(run, 'run.started', run.startedAt));
}

export function reportEnd(events: EventSink, run: ClaimedRun, status: TerminalStatus, at: number): void {
  if (events.observed) events.next(eventOf(run, `run.${status}`, at));
}

/** Runs that a cancellation has ended by itself. */
export function reportCancelled(events: EventSink, ended: CancelResult['ended']): void {
  if (!events.observed) return;
  for (const run of ended) events.next(eventOf(run, 'run.cancelled', run.at));
}

export function reportWrite(
  events: EventSink,
  run: ClaimedRun,
  write: Pick<RunWrite, 'outcomes' | 'move'>,
  at: number,
): void {
  if (!events.observed) return;
  for (const outcome of write.outcomes) reportStep(events, run, outcome, at);
  if (write.move?.to === 'waiting') events.next(eventOf(run, 'run.waiting', at));
  if (write.move?.to === 'continued') events.next(eventOf(run, 'run.continued', at));
  if (write.move?.to === 'blocked') events.next(eventOf(run, 'run.blocked', at));
}

function reportStep(events: EventSink, run: ClaimedRun, outcome: RecordedOutcome, at: number): void {
  const type = stepEventType(outcome);
  if (!type) return;
  const event = eventOf(run, type, outcome.kind === 'retry' ? at : outcome.finishedAt);
  events.next({ ...event, step: displayKey(outcome.name, outcome.ordinal), attempts: outcome.attempts });
}

function stepEventType(outcome: RecordedOutcome): RunEvent['type'] | undefined {
  const { kind, status } = outcome;
  if (kind === 'retry') return `${ownerOf(outcome).kind}.retrying`;
  if (kind !== 'step' && kind !== 'compensation') return undefined;
  return status === 'completed' ? `${kind}.completed` : `${kind}.failed`;
}

function eventOf(run: ReportedRun, type: RunEvent['type'], at: number): RunEvent {
  return {
    type,
    runId: run.id,
    workflow: run.workflow,
    parentId: run.parentId ?? undefined,
    rootId: run.rootId,
    at: new Date(at),
  };
}
