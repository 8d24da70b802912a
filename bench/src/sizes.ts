/** How much of everything is measured. */
export interface Sizes {
  /** How often each system is visited for the scenarios that are repeated most. */
  rounds: number;
  warmMs: number;
  measureMs: number;
  /** Runs one after the other, for latencies, and the time after which it is enough. */
  latencyCount: number;
  latencyMs: number;
  signals: number;
  fanOut: { small: number; large: number };
  parked: { small: number; large: number };
  doomed: number;
  replayed: number;
  costRuns: number;
  finished: number;
  soakMs: number;
}

export const FULL: Sizes = {
  rounds: 5,
  warmMs: 1_500,
  measureMs: 2_500,
  latencyCount: 300,
  latencyMs: 3_000,
  signals: 100,
  fanOut: { small: 1_000, large: 10_000 },
  parked: { small: 10_000, large: 100_000 },
  doomed: 100,
  replayed: 10_000,
  costRuns: 2_000,
  finished: 5_000_000,
  soakMs: 3_600_000,
};

export const QUICK: Sizes = {
  rounds: 2,
  warmMs: 500,
  measureMs: 1_000,
  latencyCount: 100,
  latencyMs: 1_000,
  signals: 30,
  fanOut: { small: 100, large: 1_000 },
  parked: { small: 200, large: 1_000 },
  doomed: 10,
  replayed: 500,
  costRuns: 500,
  finished: 50_000,
  soakMs: 20_000,
};
