import type { Load } from './load.js';
import type { FinishedRuns, RawDatabase, System } from './system.js';

/** An operation of a system by its name; those of its parts are written with a dot. */
export type Operation =
  Exclude<keyof System, 'close' | 'finished' | 'raw'> | `finished.${keyof FinishedRuns}` | `raw.${keyof RawDatabase}`;

/** What a process of a system can be asked for. Without `args`, an operation that is repeated gets the number of the item. */
export type Demand =
  | { kind: 'call'; operation: Operation; args: unknown[] }
  | ({ kind: 'steady'; operation: Operation; args?: unknown[] } & Load)
  | { kind: 'latencies'; operation: Operation; args?: unknown[]; count: number; limitMs: number }
  | { kind: 'batch'; operation: Operation; args?: unknown[]; count: number; inFlight: number }
  | { kind: 'memory' }
  | { kind: 'close' };

/** What a process says of its system when it has opened it. */
export interface Introduction {
  /** Those that the system has. */
  operations: string[];
  settings: string;
  /** Why it has no such operation. */
  lacks: Record<string, string>;
}

export type Request = Demand & { id: number };

export interface Answer {
  id: number;
  value?: unknown;
  error?: string;
  /** Milliseconds, of the clock that all processes of the machine share. */
  startedAt?: number;
  endedAt?: number;
}
