import type { StartLimitError } from './errors.js';
import type { Attributes, RunStatus } from './run.js';

/** What a process can take on itself, so that what it starts need not be claimed. */
export interface Placement {
  /** The worker, when it has free slots and serves the queue; its own new runs begin at once. */
  workerId: string | undefined;
  /** `order@1` of everything this process can run. */
  definitions: readonly string[];
  /** Parents whose code is in this process: parked ones go on without a claim when they are woken. */
  resident: readonly string[];
  /** Of new runs whose code has come to its first wait already. */
  openings: readonly Opening[];
}

/** Nobody here takes anything on: whoever claims it has it. */
export const NOBODY: Placement = { workerId: undefined, definitions: [], resident: [], openings: [] };

/** What a new run does before anything has happened to it, to be committed with it if it begins at once: it starts children, and waits. */
export interface Opening {
  runId: string;
  waitingFor: string;
  children: readonly NewRun[];
}

export interface NewRun {
  id: string;
  workflow: string;
  version: number;
  key: string | null;
  queue: string;
  priority: number;
  tenant: string | null;
  label: string | null;
  attributes: Attributes | null;
  input: string | null;
  inputDigest: string;
  /** What the caller's context has kept (CallerContext). */
  context: string | null;
  /** The trace that it belongs to, as those who trace it write it down (Telemetry). */
  trace: string | null;
  /** Ms from now, or null for at once. */
  delayMs: number | null;
  startAt: number | null;
  /** Ms from its start on the database's clock. */
  timeoutMs: number | null;
  /** The latest end that it inherits. */
  deadline: number | null;
  parent: ChildPlace | null;
  /** Whether this process would begin it at once. */
  eager: boolean;
}

/** Whether nothing but what is claimable already, or a queue's limits, can keep it from beginning with its start. */
export function beginsWithStart({ eager, key }: NewRun): boolean {
  return eager && key === null;
}

/** How a child hangs on its parent. */
export interface ChildPlace {
  parentId: string;
  rootId: string;
  depth: number;
  ref: string;
  /** The step attempt that started it, or '' for the workflow's own code. */
  scope: string;
  awaited: boolean;
  /** Whether the parent's cancellation reaches it. */
  cascades: boolean;
  closesWithParent: boolean;
  /** Started in a `shield`: allowed although the parent is being cancelled. */
  shielded: boolean;
}

export interface StartResult {
  id: string;
  /** False when the key found an existing run. */
  started: boolean;
  status: RunStatus;
  /** It was given to the worker that starts it, which has not begun it yet. */
  begins: boolean;
  inputDigest: string;
  /** The database's time of the start. */
  at: number;
  deadline: number | null;
  /** The children that its opening has made; undefined: it has none, or that was not kept. */
  opened?: readonly NewChild[] | undefined;
}

/** A child that was inserted. */
export interface NewChild {
  id: string;
  /** It was given to the worker that starts it. */
  begins: boolean;
  /** Of one that begins. */
  deadline: number | null;
}

/** The tenant has used its starts up. */
export interface StartRefusal {
  refusal: StartLimitError;
}

export type StartOutcome = StartResult | StartRefusal;

export interface StartWithin {
  result: StartResult;
  /** Whether the caller's transaction has not ended yet: until then, nobody else sees the run. */
  isUncommitted(this: void): boolean;
}
