import { type Span, SpanStatusCode } from '@opentelemetry/api';

/** Marks a span as failed, by an error or by anything else that was thrown. */
export function recordError(span: Span, error: unknown): void {
  const exception = error instanceof Error ? error : String(error);
  span.recordException(exception);
  span.setStatus({ code: SpanStatusCode.ERROR, message: exception instanceof Error ? exception.message : exception });
}
