import type { RunStatus, RunSummary, WaitingFor } from '../engine/run.js';
import { styled } from './output.js';
import { describeAge, describeDuration } from './time-text.js';

const COLOURS = {
  pending: 'blue',
  running: 'cyan',
  waiting: 'blue',
  blocked: 'magenta',
  completed: 'green',
  failed: 'red',
  cancelled: 'yellow',
} as const satisfies Record<RunStatus, string>;

export function describeStatus({ status, paused = false }: { status: RunStatus; paused?: boolean }): string {
  return styled(COLOURS[status], paused ? `${status} (paused)` : status);
}

/** What a run waits for, or how long it took. */
export function describeProgress(run: RunSummary): string {
  if (run.finishedAt) return run.startedAt ? `took ${tookOf(run.startedAt, run.finishedAt)}` : 'never began';
  if (run.waitingFor.length > 0) return run.waitingFor.map(describeWait).join(', ');
  return run.wakeAt && run.status !== 'running' ? `begins ${describeAge(run.wakeAt)}` : '';
}

export function describeWait({ kind, name, until }: WaitingFor): string {
  if (!until) return `${kind} ${name}`;
  const leftMs = until.getTime() - Date.now();
  return `${kind} ${name}, ${leftMs > 0 ? `${describeDuration(leftMs)} left` : 'overdue'}`;
}

export function tookOf(from: Date, to: Date): string {
  return describeDuration(to.getTime() - from.getTime());
}

/** The shortest beginnings by which these ids differ. An id begins with its time, so ids of one moment begin alike. */
export function shortened(ids: readonly string[]): (id: string) => string {
  let length = SHORTEST;
  const whole = new Set(ids);
  while (length < LONGEST && new Set([...whole].map((id) => id.slice(0, length))).size < whole.size) length++;
  return (id) => id.slice(0, length);
}

/** With the whole of its time: 8 digits, a dash and 4. */
const SHORTEST = 13;
const LONGEST = 36;
