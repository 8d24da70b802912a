import { type Command, notedAs } from './command.js';
import { UnreadablePayloadError } from './errors.js';
import type { RunExecution } from './run-execution.js';

/** What the bodies of a step say of their progress by heartbeats, over its attempts and over processes. */
export class StepProgress {
  private text: string | null;
  private seq: number | undefined;

  constructor(
    private readonly execution: RunExecution,
    private readonly command: Command,
    private readonly what: string,
  ) {
    const kept = execution.history.findProgress(command.identity);
    this.seq = kept?.seq;
    this.text = kept?.progress ?? null;
  }

  /** The stored form of the last progress, if there was any. */
  get stored(): string | null {
    return this.text;
  }

  /** One that cannot be read is no failure of the attempt: the run is blocked. */
  get value(): unknown {
    try {
      return this.execution.serializer.decode(this.text);
    } catch (error) {
      if (error instanceof UnreadablePayloadError) this.execution.block(error);
      throw error;
    }
  }

  /** Without a progress it says that the attempt is alive. Throws PayloadError. */
  beat(attempt: number, progress: unknown): void {
    const { execution, command } = this;
    const { run, history, serializer, host } = execution;
    if (progress !== undefined) this.text = serializer.encode(progress, this.what);
    this.seq ??= history.nextSeq();
    host.heartbeats.add({
      runId: run.id,
      epoch: run.epoch,
      seq: this.seq,
      identity: notedAs(command.identity),
      attempt,
      progress: this.text,
      afterSeq: command.afterSeq,
      startedAt: command.askedAt,
    });
  }
}
