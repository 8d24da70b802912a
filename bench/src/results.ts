import type { Candidate } from './systems.js';
import type { Sizes } from './sizes.js';

/** Why a scenario has no number of a system. */
export interface Gap {
  scenario: string;
  system: string;
  reason: string;
}

export interface Machine {
  cpus: number;
  cpu: string;
  memoryGiB: number;
  node: string;
  postgres: string;
  /** Settings of the server that matter for what is measured. */
  settings: Record<string, string>;
}

/** All that a run of the benchmark has found: `results.json`. */
export interface Results {
  measuredAt: string;
  machine: Machine;
  sizes: Sizes;
  systems: (Omit<Candidate, 'module'> & { settings: string })[];
  /** By system and metric, the values of all rounds. */
  values: Record<string, Record<string, number[]>>;
  missing: Gap[];
  failed: Gap[];
}
