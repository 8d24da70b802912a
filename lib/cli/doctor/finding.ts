import type { Engine } from '../../engine/engine.js';
import type { Diagnosis } from '../../store/diagnosis.js';

/** Something that is not as it should be, or (a notice) may be meant to be so. */
export interface Finding {
  level: 'problem' | 'notice';
  /** Stable, for scripts. */
  check: string;
  what: string;
  mend: string;
  /** Some of the runs that it is about. */
  runIds?: string[];
}

export interface Limits {
  /** How long something claimable may wait, ms. */
  overdueMs: number;
  /** How long a run may execute without recording anything, ms. */
  silentMs: number;
  /** Entries of a history. */
  longHistory: number;
}

export interface Patient {
  diagnosis: Diagnosis;
  engine: Engine;
  /** Begins to hear what other processes announce, if it can. */
  listen(): Promise<void>;
  limits: Limits;
}

/** One thing that may be wrong. What it finds has its name. */
export interface Check {
  name: string;
  find(patient: Patient): Promise<Omit<Finding, 'check'>[]>;
}

export function problem(what: string, mend: string, runs: readonly { id: string }[] = []): Omit<Finding, 'check'> {
  return { level: 'problem', what, mend, ...(runs.length > 0 && { runIds: runs.map(({ id }) => id) }) };
}

export function notice(what: string, mend: string): Omit<Finding, 'check'> {
  return { level: 'notice', what, mend };
}

/** `1 run`, `3 runs`. */
export function count(number: number, one: string): string {
  return `${number} ${one}${number === 1 ? '' : 's'}`;
}
