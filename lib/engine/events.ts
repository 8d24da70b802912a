export const RUN_EVENT_TYPES = [
  'run.started',
  'run.waiting',
  'run.continued',
  'run.completed',
  'run.failed',
  'run.cancelled',
  'run.blocked',
  'step.completed',
  'step.retrying',
  'step.failed',
  'compensation.completed',
  'compensation.retrying',
  'compensation.failed',
] as const;

/**
 * Something that happened to a run, after it was committed: told in the process that did it, once, and lost with that process. A run
 * that was cancelled at once is told of where it was cancelled.
 */
export interface RunEvent {
  type: (typeof RUN_EVENT_TYPES)[number];
  runId: string;
  workflow: string;
  parentId: string | undefined;
  rootId: string;
  at: Date;
  /** Of a step or compensation event: its name with the number of its call. */
  step?: string;
  /** Of a step or compensation event: how many attempts were made. */
  attempts?: number;
}

/** Where a worker reports what happened. */
export interface EventSink {
  /** Whether anybody listens. */
  readonly observed: boolean;
  next(event: RunEvent): void;
}
