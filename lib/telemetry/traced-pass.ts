import {
  type Attributes,
  type Context,
  context,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
  type Tracer,
} from '@opentelemetry/api';
import type { Returned } from '../engine/run-end.js';
import type { ClaimedRun } from '../engine/claimed-run.js';
import type { NewRun } from '../engine/new-run.js';
import type { Move } from '../engine/run-write.js';
import type { BegunAttempt, ObservedAttempt, ObservedExecution, ObservedPass } from '../engine/telemetry.js';
import { recordError } from './span-errors.js';
import { fromStored } from './trace-context.js';

/** Moves that say that something is wrong. */
const WRONG: ReadonlySet<Move['to'] | undefined> = new Set<Move['to']>(['failed', 'blocked']);

export interface PassParts {
  tracer: Tracer;
  run: ClaimedRun;
  execution: ObservedExecution;
  startChild(child: NewRun, within: Context): void;
  ended(to: Move['to'] | undefined): void;
}

/** The spans of one pass over a run: one for each time that it has a slot, and below it those of the attempts that begin then. */
export class TracedPass implements ObservedPass {
  /** What the run was started in: active in the workflow's own code, which outlives the span of the slot that it began in. */
  private readonly started: Context;
  private readonly attributes: Attributes;
  /** Bodies that have not ended, by where their own calls are numbered. */
  private readonly attempts = new Map<string, TracedAttempt>();
  private span: Span | undefined;
  private slot: Context;

  constructor(private readonly parts: PassParts) {
    const { run } = parts;
    this.started = this.slot = fromStored(run);
    this.attributes = {
      'orchestration.run.id': run.id,
      'orchestration.workflow': run.workflow,
      'orchestration.version': run.version,
      'orchestration.tenant': run.tenant ?? undefined,
    };
    this.resumes();
  }

  enter<T>(code: () => T): T {
    return context.with(this.started, code);
  }

  attempt({ identity, step, attempt, scope }: BegunAttempt): ObservedAttempt {
    const attributes = { ...this.attributes, 'orchestration.step': step, 'orchestration.attempt': attempt };
    const within = this.contextOf(identity.scope);
    const span = this.parts.tracer.startSpan(`${identity.kind} ${identity.name}`, { attributes }, within);
    const traced = new TracedAttempt(span, trace.setSpan(within, span), () => this.attempts.delete(scope));
    this.attempts.set(scope, traced);
    return traced;
  }

  startsChild(child: NewRun): void {
    this.parts.startChild(child, this.contextOf(child.parent!.scope));
  }

  resumes(): void {
    const { workflow, key, queue, rootId, parentId, generation, recoveries } = this.parts.run;
    const attributes = {
      ...this.attributes,
      'orchestration.run.key': key ?? undefined,
      'orchestration.queue': queue,
      'orchestration.root.id': rootId,
      'orchestration.parent.id': parentId ?? undefined,
      'orchestration.generation': generation || undefined,
      'orchestration.recoveries': recoveries || undefined,
    };
    const options = { kind: SpanKind.CONSUMER, attributes };
    this.span = this.parts.tracer.startSpan(`run ${workflow}`, options, this.started);
    this.slot = trace.setSpan(this.started, this.span);
  }

  ends(to: Move['to'] | undefined, error?: string): void {
    const { span } = this;
    if (!span) return;
    this.span = undefined;
    span.setAttribute('orchestration.outcome', to ?? 'released');
    if (WRONG.has(to)) this.recordStored(span, error);
    span.end();
    this.parts.ended(to);
  }

  private recordStored(span: Span, error: string | undefined): void {
    const { name, message, stack } = this.parts.execution.serializer.decodeError(error ?? null);
    span.recordException({ name, message, stack });
    span.setStatus({ code: SpanStatusCode.ERROR, message });
  }

  /** Of a call: in the body of that attempt, or in the workflow's own code. */
  private contextOf(scope: string): Context {
    return this.attempts.get(scope)?.active ?? this.slot;
  }
}

/** An attempt of a step: its span is active in its body. */
class TracedAttempt implements ObservedAttempt {
  private isOpen = true;

  constructor(
    private readonly span: Span,
    readonly active: Context,
    private readonly closed: () => void,
  ) {}

  enter<T>(code: () => T): T {
    return context.with(this.active, code);
  }

  end(returned: Returned | undefined): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.closed();
    if (!returned) this.span.setAttribute('orchestration.outcome', 'abandoned');
    else if ('error' in returned) recordError(this.span, returned.error);
    this.span.end();
  }
}
