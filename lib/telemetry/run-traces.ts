import { type Attributes, type Context, context, type Span, SpanKind, type Tracer } from '@opentelemetry/api';
import type { ClaimedRun } from '../engine/claimed-run.js';
import type { NewRun } from '../engine/new-run.js';
import type { ObservedExecution, ObservedPass, StartedTrace } from '../engine/telemetry.js';
import { recordError } from './span-errors.js';
import { toStored } from './trace-context.js';
import { type PassParts, TracedPass } from './traced-pass.js';

/**
 * Runs as spans. A run may wait for days, move between processes and lose one, so no span is open for all of its life:
 *
 *   start order           where the run is started, below the caller's span; stored with the run
 *     run order           from when the run gets a slot until it gives it up: to wait, or at its end
 *       step charge       an attempt of a step, active while the body runs
 *       start payment     a child is started; stored with the child
 *         run payment
 *     run order           after a wait, a crash or a deploy, in whatever process
 */
export class RunTraces {
  constructor(private readonly tracer: Tracer) {}

  async starting<T>(runs: readonly StartedTrace[], start: () => Promise<T>): Promise<T> {
    const spans = runs.map((run) => this.startOf(run, context.active()));
    try {
      return await start();
    } catch (error) {
      for (const span of spans) recordError(span, error);
      throw error;
    } finally {
      for (const span of spans) span.end();
    }
  }

  pass(run: ClaimedRun, execution: ObservedExecution, ended: PassParts['ended']): ObservedPass {
    const startChild = (child: NewRun, within: Context) => this.startOf(child, within).end();
    return new TracedPass({ tracer: this.tracer, run, execution, startChild, ended });
  }

  private startOf(run: StartedTrace, within: Context): Span {
    const attributes = startAttributes(run);
    const span = this.tracer.startSpan(
      `start ${run.workflow ?? 'fork'}`,
      { kind: SpanKind.PRODUCER, attributes },
      within,
    );
    run.trace = toStored(span);
    return span;
  }
}

function startAttributes({ id, workflow, version, queue, tenant }: StartedTrace): Attributes {
  return {
    'orchestration.run.id': id,
    'orchestration.workflow': workflow,
    // Below 1, it is not known yet: the newest that there is.
    'orchestration.version': version && version > 0 ? version : undefined,
    'orchestration.queue': queue,
    'orchestration.tenant': tenant ?? undefined,
  };
}
