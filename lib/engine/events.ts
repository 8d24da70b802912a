/** Something that happened to a run in this process, after it was committed. */
export interface RunEvent {
  type:
    | 'run.started'
    | 'run.waiting'
    | 'run.continued'
    | 'run.completed'
    | 'run.failed'
    | 'run.cancelled'
    | 'run.blocked'
    | 'step.completed'
    | 'step.retrying'
    | 'step.failed'
    | 'compensation.completed'
    | 'compensation.retrying'
    | 'compensation.failed';
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
