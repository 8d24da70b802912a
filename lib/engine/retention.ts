import { type Duration, tryParseDuration } from './duration.js';
import type { Engine } from './engine.js';
import type { TerminalStatus } from './run.js';

/** How long finished runs are kept, by how they ended. What is not given is kept for ever. */
export interface RetentionOptions {
  completed?: Duration;
  failed?: Duration;
  cancelled?: Duration;
}

/** In ms; null: for ever. */
export type KeptFor = Readonly<Record<TerminalStatus, number | null>>;

/** Where a sweep has come to: by workflow and status, and there in the order in which runs ended. */
export interface SweepPosition {
  workflow: string;
  status: TerminalStatus;
  /** Undefined: at the beginning. */
  after: { finishedAt: string; id: string } | undefined;
}

/** A batch of a sweep: where to go on, undefined at the end, and how many runs went. */
export interface Sweep {
  next: SweepPosition | undefined;
  deleted: number;
}

export interface RetentionStore {
  /** Notes how long runs of these workflows are kept, whatever their end; null: as the defaults say. */
  declare(keptMs: ReadonlyMap<string, number | null>): Promise<void>;
  /**
   * Deletes families that are past their time, a batch from there on; undefined: from the beginning. Gives where to go on, or
   * undefined at the end. `busy`: another process is at it.
   */
  sweep(kept: KeptFor, from: SweepPosition | undefined): Promise<Sweep | 'busy'>;
}

const OPTIONS = ['completed', 'failed', 'cancelled'] satisfies TerminalStatus[];

/** What is wrong with the option, for the report at boot. */
export function retentionProblems(retention: RetentionOptions): string[] {
  return Object.entries(retention).flatMap(([status, value]) => {
    if (!(OPTIONS as string[]).includes(status))
      return [`retention: unknown option '${status}' (known: ${OPTIONS.join(', ')})`];
    return value === undefined || (tryParseDuration(value) ?? -1) > 0
      ? []
      : [`retention.${status} must be a duration above zero, not ${JSON.stringify(value)}`];
  });
}

/** The option when it is right. */
export function toKeptFor({ completed, failed, cancelled }: RetentionOptions = {}): KeptFor {
  const ms = (duration: Duration | undefined) => (duration === undefined ? null : tryParseDuration(duration)!);
  return { completed: ms(completed), failed: ms(failed), cancelled: ms(cancelled) };
}

/** Notes what the highest versions of the workflows of this process say, so that other processes know it too. */
export async function declareRetention({ registry, store }: Engine): Promise<void> {
  const keptMs = registry.newest().map(({ name, retentionMs }) => [name, retentionMs ?? null] as const);
  await store.retention.declare(new Map(keptMs));
}
