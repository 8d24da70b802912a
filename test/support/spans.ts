import { context, propagation, type Span, trace } from '@opentelemetry/api';
import {
  InMemorySpanExporter,
  NodeTracerProvider,
  type ReadableSpan,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-node';

/** The OpenTelemetry SDK of a test, registered as an app registers it: what was traced is kept in memory. */
export class RecordedSpans {
  private readonly exporter = new InMemorySpanExporter();
  private readonly provider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(this.exporter)] });

  register(): void {
    this.provider.register();
  }

  async unregister(): Promise<void> {
    for (const api of [trace, context, propagation]) api.disable();
    await this.provider.shutdown();
  }

  reset(): void {
    this.exporter.reset();
  }

  /** Those that have ended, in the order in which they began. */
  get all(): ReadableSpan[] {
    return this.exporter.getFinishedSpans().toSorted((one, other) => timeOf(one) - timeOf(other));
  }

  named(name: string): ReadableSpan[] {
    return this.all.filter((span) => span.name === name);
  }

  get traceIds(): string[] {
    return [...new Set(this.all.map((span) => span.spanContext().traceId))];
  }

  /** The names of all spans as a tree, one in a line, indented below its parent. */
  get tree(): string[] {
    const known = new Set(this.all.map((span) => span.spanContext().spanId));
    const roots = this.all.filter((span) => !known.has(span.parentSpanContext?.spanId ?? ''));
    return roots.flatMap((root) => this.branch(root, ''));
  }

  /** Runs code as the handler of a request that is traced. */
  async inSpan<T>(name: string, code: (span: Span) => Promise<T>): Promise<T> {
    return trace.getTracer('test').startActiveSpan(name, async (span) => {
      try {
        return await code(span);
      } finally {
        span.end();
      }
    });
  }

  private branch(span: ReadableSpan, indent: string): string[] {
    const children = this.all.filter((one) => one.parentSpanContext?.spanId === span.spanContext().spanId);
    return [indent + span.name, ...children.flatMap((child) => this.branch(child, `${indent}  `))];
  }
}

function timeOf({ startTime: [seconds, nanos] }: ReadableSpan): number {
  return seconds * 1e3 + nanos / 1e6;
}
