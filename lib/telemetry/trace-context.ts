import {
  type Context,
  context,
  defaultTextMapGetter,
  defaultTextMapSetter,
  ROOT_CONTEXT,
  type Span,
  trace,
} from '@opentelemetry/api';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import type { ClaimedRun } from '../engine/claimed-run.js';

const propagator = new W3CTraceContextPropagator();

/** How a span is stored with the runs that are started in it: its traceparent, and its tracestate behind that. Null: it traces nothing. */
export function toStored(span: Span): string | null {
  const carrier: { traceparent?: string; tracestate?: string } = {};
  propagator.inject(trace.setSpan(context.active(), span), carrier, defaultTextMapSetter);
  if (!carrier.traceparent) return null;
  return carrier.tracestate ? `${carrier.traceparent} ${carrier.tracestate}` : carrier.traceparent;
}

/**
 * The context that a run was started in. One that was started where nothing traces has none (by a schedule, or a process without
 * telemetry): its family's trace then has the id of its root, so that every process goes on in the same one.
 */
export function fromStored({ trace: stored, rootId }: Pick<ClaimedRun, 'trace' | 'rootId'>): Context {
  const [traceparent, tracestate] = stored ? stored.split(/ (.*)/) : [traceparentOf(rootId)];
  return propagator.extract(ROOT_CONTEXT, { traceparent, tracestate }, defaultTextMapGetter);
}

function traceparentOf(rootId: string): string {
  const id = rootId.replaceAll('-', '');
  return `00-${id}-${id.slice(16)}-01`;
}
