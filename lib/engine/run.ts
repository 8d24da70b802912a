import type { StoredError } from './stored-error.js';

/** The status of a run. The last three are terminal: they never change again, except by an operator's `retry`. */
export type RunStatus = 'pending' | 'running' | 'waiting' | 'blocked' | 'completed' | 'failed' | 'cancelled';
export type TerminalStatus = 'completed' | 'failed' | 'cancelled';

export const RUN_STATUSES: readonly RunStatus[] = [
  'pending',
  'running',
  'waiting',
  'blocked',
  'completed',
  'failed',
  'cancelled',
];

export function isTerminal(status: RunStatus): status is TerminalStatus {
  return status === 'completed' || status === 'failed' || status === 'cancelled';
}

/** Whether what the run has done is being undone, or how that ended; `failed`: not everything could be. */
export type CompensationStatus = 'none' | 'running' | 'done' | 'failed';

/** Values by which runs can be listed. */
export type Attributes = Record<string, string | number | boolean | null>;

/** What a parked run waits for; `until` is when it stops to wait by itself. */
export interface WaitingFor {
  kind: 'timer' | 'signal' | 'child' | 'input' | 'retry';
  name: string;
  until: Date | null;
}

interface RunFacts {
  id: string;
  workflow: string;
  version: number;
  key: string | undefined;
  paused: boolean;
  queue: string;
  priority: number;
  tenant: string | undefined;
  label: string | undefined;
  attributes: Attributes;
  /** What the run last gave to `ctx.setState`. */
  state: unknown;
  parentId: string | undefined;
  /** The name its parent gave it. */
  ref: string | undefined;
  /** The run whose history it shares up to a step. */
  forkedFrom: string | undefined;
  /** The topmost run of its family; its own id when it has no parent. */
  rootId: string;
  /** 1 for a root. */
  depth: number;
  createdAt: Date;
  startedAt: Date | undefined;
  /** When it becomes claimable by itself: a delay, a sleep, a timeout, a retry. */
  wakeAt: Date | undefined;
  waitingFor: WaitingFor[];
  compensation: CompensationStatus;
  /** How often it was taken over from a lost worker without having recorded anything since. */
  recoveries: number;
  workerId: string | undefined;
}

/** A run as lists show it: without its payloads. */
export type RunSummary = RunFacts &
  (
    | { status: 'pending' | 'running' | 'waiting' | 'blocked'; finishedAt: undefined }
    | { status: TerminalStatus; finishedAt: Date }
  );

/** What the body of a step that has not ended last said by `heartbeat`. */
export interface StepHeartbeat {
  /** The step's name with the number of its call. */
  step: string;
  attempt: number;
  progress: unknown;
  at: Date;
}

/** A run with its payloads: an output exists only when completed, an error only when failed, cancelled or blocked. */
export type RunDetails = RunSummary & {
  input: unknown;
  /** Of the steps that are under way; none when the run has ended. */
  heartbeats: StepHeartbeat[];
} & (
    | { status: 'completed'; output: unknown }
    | { status: 'failed' | 'cancelled' | 'blocked'; error: StoredError }
    | { status: 'pending' | 'running' | 'waiting' }
  );

/** A line that the body of a step wrote through Nest's Logger. */
export interface LogLine {
  at: Date;
  level: 'log' | 'error' | 'warn' | 'debug' | 'verbose' | 'fatal';
  /** At most 1,000 characters of it. */
  message: string;
  /** Of the logger. */
  context: string | undefined;
  /** The attempt that wrote it. */
  attempt: number;
}

/** One recorded outcome of a run. */
export interface HistoryEntry {
  seq: number;
  /**
   * A `decision` is whether a step of a flow runs (`when`); its output is the answer. A `patch` is no outcome: the run goes the
   * new way at that change of the code. `expiry`: the deadline of the run, or the time for its clean-up, was over, and its
   * compensations began.
   */
  kind: 'step' | 'timer' | 'signal' | 'child' | 'input' | 'decision' | 'compensation' | 'cancel' | 'expiry' | 'patch';
  name: string;
  /** The name with the number of its call (`charge`, `charge#2`); for a child its ref. */
  key: string;
  status: 'completed' | 'failed' | 'cancelled' | 'timeout';
  output: unknown;
  error: StoredError | undefined;
  attempts: number;
  startedAt: Date;
  finishedAt: Date;
  childId: string | undefined;
  /** Of a step, in the order of its attempts: the last 100 of each. */
  logs: LogLine[];
}

/** A run and its descendants. */
export interface RunTree {
  id: string;
  workflow: string;
  ref: string | undefined;
  label: string | undefined;
  status: RunStatus;
  createdAt: Date;
  startedAt: Date | undefined;
  finishedAt: Date | undefined;
  children: RunTree[];
}

/** One page of a list; `nextCursor` is given back as `cursor` for the next, and undefined on the last. */
export interface Page<T> {
  items: T[];
  nextCursor: string | undefined;
}
