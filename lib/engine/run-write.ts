import type { CancelMark, CancelResult } from './cancellation.js';
import type { AskedInput, InputIdentity } from './input-store.js';
import type { NewChild, NewRun } from './new-run.js';
import type { RecordedOutcome } from './recorded-run.js';
import type { Attributes, CompensationStatus, RunStatus } from './run.js';
import type { WokenRun } from './store.js';

/** How a write moves its run on. */
export type Move =
  | { to: 'completed'; output: string | null }
  | { to: 'failed' | 'cancelled'; error: string }
  | { to: 'blocked'; error: string }
  /** Begins anew with this input and without a history. */
  | { to: 'continued'; input: string | null }
  /** Gives the slot up until something happens. Refused when a wake has come that the write's `seenWakes` does not count. */
  | { to: 'waiting'; wakeAt: number | null; waitingFor: string };

/** What one run has to write: its outcomes, its new children, how it moves on. All or nothing. */
export interface RunWrite {
  runId: string;
  workflow: string;
  epoch: number;
  /** Numbers the writes that change the run's row, so that a repeated one is recognised. */
  writeNo: number;
  /** Who must be touched when this write ends the run. */
  parentId: string | null;
  outcomes: RecordedOutcome[];
  children: NewRun[];
  move: Move | null;
  /** The wakes of the run that were known when its move was decided. */
  seenWakes: number;
  /** Undefined: unchanged. */
  state: string | null | undefined;
  attributes: Attributes | null;
  /** Whether the run knows that it is being cancelled. One that does not cannot end, park or start children. */
  knowsCancel: boolean;
  /** The parent has been told of the end that this write makes: its own next write counts on it. */
  toldParent: boolean;
  effects: Effects | null;
}

/** What a write does to other runs, and to what people see of this one. */
export interface Effects {
  /** Children to cancel, with their descendants. */
  cancels: { runIds: string[]; reason: string }[];
  /** Own children whose end now wakes this run. */
  awaits: string[];
  /** Other runs whose end now wakes this run. */
  watches: string[];
  /** Ended children whose ref becomes free. */
  supersedes: string[];
  /** This write ends the run: children that close with it are cancelled. */
  closesChildren: boolean;
  /** Inputs that the run waits for from now on, and those that it does not wait for any more. */
  asks: AskedInput[];
  closes: Omit<InputIdentity, 'runId'>[];
  /** This write ends the run: it waits for no input. */
  closesInputs: boolean;
  /** This write continues the run as its next generation, after this one. */
  continues: { generation: number } | null;
  /** How far the run's own compensations are; null: unchanged. */
  compensation: Exclude<CompensationStatus, 'none'> | null;
}

export interface CommitResult {
  /** Of each write that was made under the current epoch; a run that is missing was lost to another worker. */
  runs: CommittedRun[];
  /** Runs that these writes touched: parents and watchers. */
  woken: WokenRun[];
  /** The new children that were made; one that is missing was refused because its parent is being cancelled. */
  children: NewChild[];
  cancelled: CancelResult | null;
  /** Queues on which runs that are waited for from now on can be claimed; a claim that came in between has skipped those. */
  readyOn: string[];
  /** The database's time. */
  at: number;
}

export interface CommittedRun {
  id: string;
  status: RunStatus;
  wakes: number;
  cancel: CancelMark | null;
  /** Another process waits for its result. */
  watched: boolean;
  /** Set when the write has continued the run. */
  next: Generation | undefined;
}

/** A run that has begun anew, still in the hands of its worker. */
export interface Generation {
  workerId: string | null;
  generation: number;
  epoch: number;
  wakes: number;
  startedAt: number;
}
