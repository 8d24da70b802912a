import type { ClaimedRun } from './claimed-run.js';
import type { Attributes } from './run.js';
import type { CancelMark } from './cancellation.js';
import type { NewRun, StartResult } from './new-run.js';

const NO_ATTRIBUTES: Attributes = Object.freeze({});

/** The claim of a run that was inserted as already owned. */
export class StartedRun implements ClaimedRun {
  readonly id: string;
  readonly workflow: string;
  readonly version: number;
  readonly key: string | null;
  readonly queue: string;
  readonly priority: number;
  readonly tenant: string | null;
  attributes: Attributes;
  readonly input: string | null;
  readonly context: string | null;
  readonly trace: string | null;
  readonly parentId: string | null;
  readonly parentAwaits: boolean;
  readonly rootId: string;
  readonly depth: number;
  epoch = 1;
  wakes = 0;
  readonly recoveries = 0;
  readonly generation = 0;
  readonly ancestors = null;
  startedAt: number;
  readonly retriedAt = null;
  readonly deadline: number | null;
  cancel: CancelMark | null = null;
  readonly fresh = true;
  readonly readyAt = null;

  constructor(run: NewRun, { at, deadline }: Pick<StartResult, 'at' | 'deadline'>) {
    this.id = run.id;
    this.workflow = run.workflow;
    this.version = run.version;
    this.key = run.key;
    this.queue = run.queue;
    this.priority = run.priority;
    this.tenant = run.tenant;
    this.attributes = run.attributes ?? NO_ATTRIBUTES;
    this.input = run.input;
    this.context = run.context;
    this.trace = run.trace;
    this.parentId = run.parent?.parentId ?? null;
    this.parentAwaits = run.parent?.awaited ?? false;
    this.rootId = run.parent?.rootId ?? run.id;
    this.depth = run.parent?.depth ?? 1;
    this.startedAt = at;
    this.deadline = deadline;
  }
}
