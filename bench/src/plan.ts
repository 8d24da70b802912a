import type { Scenario } from './scenario.js';
import { costs } from './scenarios/costs.js';
import { database } from './scenarios/database.js';
import { fanOut } from './scenarios/fan-out.js';
import { finishedRuns } from './scenarios/finished.js';
import { parkedRuns } from './scenarios/parked.js';
import { payloads } from './scenarios/payloads.js';
import { processes } from './scenarios/processes.js';
import { replay } from './scenarios/replay.js';
import { signals } from './scenarios/signals.js';
import { soak } from './scenarios/soak.js';
import { takeover } from './scenarios/takeover.js';
import { idleOneStep, oneStep, parentAndChild, tenSteps } from './scenarios/throughput.js';

/** Scenarios that are measured in one visit to a system, and how often. */
export interface Group {
  scenarios: Scenario[];
  /** A share of the rounds: 1 is all of them, 0 is once. */
  share: number;
  /** Measured only when it is asked for by its letter. */
  onDemand?: true;
}

const PLAN: Group[] = [
  { scenarios: [database, oneStep, tenSteps, parentAndChild, idleOneStep, signals, payloads], share: 1 },
  { scenarios: [fanOut], share: 0.6 },
  { scenarios: [processes], share: 0.6 },
  { scenarios: [replay], share: 0 },
  { scenarios: [costs], share: 0 },
  { scenarios: [parkedRuns], share: 0 },
  { scenarios: [takeover], share: 0 },
  { scenarios: [finishedRuns], share: 0, onDemand: true },
  { scenarios: [soak], share: 0, onDemand: true },
];

/** What of the plan is measured: all that is not on demand, or the scenarios with these letters. */
export function chosen(letters: readonly string[] | undefined): Group[] {
  return PLAN.map((group) => ({
    ...group,
    scenarios: group.scenarios.filter(({ id }) => (letters ? letters.includes(id) : !group.onDemand)),
  })).filter(({ scenarios }) => scenarios.length > 0);
}
