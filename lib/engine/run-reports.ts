import { displayKey } from './command.js';
import type { EventSink, RunEvent } from './events.js';
import type { TerminalStatus } from './run.js';
import type { ClaimedRun, RecordedOutcome, RunWrite } from './store.js';

/** Events of what a worker has committed. */
export function reportStart(report: EventSink, run: ClaimedRun): void {
  report(eventOf(run, 'run.started', run.startedAt));
}

export function reportEnd(report: EventSink, run: ClaimedRun, status: TerminalStatus, at: number): void {
  report(eventOf(run, `run.${status}`, at));
}

export function reportWrite(report: EventSink, run: ClaimedRun, write: RunWrite, at: number): void {
  for (const outcome of write.outcomes) {
    const type = stepEventType(outcome);
    if (type)
      report({
        ...eventOf(run, type, outcome.kind === 'retry' ? at : outcome.finishedAt),
        step: displayKey(outcome.name, outcome.ordinal),
        attempts: outcome.attempts,
      });
  }
  if (write.move?.to === 'waiting') report(eventOf(run, 'run.waiting', at));
  if (write.move?.to === 'blocked') report(eventOf(run, 'run.blocked', at));
}

function stepEventType({ kind, status }: RecordedOutcome): RunEvent['type'] | undefined {
  if (kind === 'retry') return 'step.retrying';
  if (kind !== 'step') return undefined;
  return status === 'completed' ? 'step.completed' : 'step.failed';
}

function eventOf(run: ClaimedRun, type: RunEvent['type'], at: number): RunEvent {
  return {
    type,
    runId: run.id,
    workflow: run.workflow,
    parentId: run.parentId ?? undefined,
    rootId: run.rootId,
    at: new Date(at),
  };
}
