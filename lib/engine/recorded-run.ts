import type { RunStatus } from './run.js';

/**
 * What is recorded that is no outcome: a failed attempt, when a timed wait in a step's body began, a body that unwinds, that an
 * at-most-once attempt begins, a heartbeat.
 */
export type NoteKind = 'retry' | 'begun' | 'unwinding' | 'attempt' | 'progress';

/** Kinds of history rows. A `patch` says that the run goes the new way at a change of the code; it is shown, and not replayed. */
export type OutcomeKind =
  | 'step'
  | 'timer'
  | 'signal'
  | 'child'
  | 'start'
  | 'input'
  | 'decision'
  | 'compensation'
  | 'cancel'
  | 'expiry'
  | 'patch'
  | NoteKind;

export type OutcomeStatus = 'completed' | 'failed' | 'cancelled' | 'timeout';

/** What a step's body last said of itself. Its place in the history is the step's own, and overwritten each time. */
export interface Heartbeat {
  runId: string;
  epoch: number;
  seq: number;
  identity: Pick<RecordedOutcome, 'scope' | 'name' | 'ordinal'>;
  attempt: number;
  progress: string | null;
  afterSeq: number;
  startedAt: number;
}

export interface RecordedOutcome {
  seq: number;
  kind: OutcomeKind;
  scope: string;
  name: string;
  ordinal: number;
  status: OutcomeStatus;
  /** Of what the call was made with; of a wait for a signal, which one it received. */
  digest: string | null;
  output: string | null;
  error: string | null;
  attempts: number;
  /** The entry after whose delivery the code asked for this one. */
  afterSeq: number;
  startedAt: number;
  finishedAt: number;
  childId: string | null;
  /** What the body of the step has logged; written, and only looked at by people. */
  logs?: string | null;
}

export interface RecordedChild {
  id: string;
  ref: string;
  scope: string;
  workflow: string;
  version: number;
  inputDigest: string;
  status: RunStatus;
  awaited: boolean;
  closesWithParent: boolean;
  cascades: boolean;
  /** Started by an earlier generation of the parent. */
  carriedOver: boolean;
}

export interface RecordedRun {
  outcomes: RecordedOutcome[];
  children: RecordedChild[];
}
