import { cpus, totalmem } from 'node:os';
import { NO_ANSWER } from './host-process.js';
import type { Group } from './plan.js';
import type { Results } from './results.js';
import type { Scenario } from './scenario.js';
import type { Server } from './server.js';
import type { Sizes } from './sizes.js';
import type { Candidate } from './systems.js';
import { type Findings, visit } from './visit.js';

const SETTINGS = [
  'fsync',
  'synchronous_commit',
  'shared_buffers',
  'wal_level',
  'max_wal_size',
  'shared_preload_libraries',
];

export interface Measurement {
  server: Server;
  candidates: Candidate[];
  groups: Group[];
  sizes: Sizes;
  /** Called after each visit, so that an interruption loses little. */
  keep(results: Results): void;
}

/**
 * Visits one system after the other, and round after round, so that only one is at work at a time and whatever disturbs the machine
 * disturbs them all.
 */
export async function run({ server, candidates, groups, sizes, keep }: Measurement): Promise<Results> {
  const results = await emptyResults(server, candidates, sizes);
  for (const { scenarios: group, share } of groups) {
    const rounds = Math.max(1, Math.round(share * sizes.rounds));
    for (let round = 1; round <= rounds; round++) {
      for (const candidate of candidates) {
        const scenarios = group.filter(
          (scenario) => isFor(candidate, scenario) && !wasTooSlow(candidate, scenario, results),
        );
        if (scenarios.length === 0) continue;
        console.log(`${scenarios.map(({ id }) => id).join(' ')} · round ${round} of ${rounds} · ${candidate.name}`);
        await visit(scenarios, { candidate, server, sizes, findings: findingsOf(candidate, results) });
        keep(results);
      }
    }
  }
  return results;
}

function isFor({ kind }: Candidate, { kinds }: Scenario): boolean {
  return kinds?.includes(kind) ?? kind !== 'database';
}

/** What has once taken longer than anybody wants to wait is not tried again in the next round. */
function wasTooSlow({ name }: Candidate, { id }: Scenario, { failed }: Results): boolean {
  return failed.some(
    ({ scenario, system, reason }) => scenario === id && system === name && reason.startsWith(NO_ANSWER),
  );
}

function findingsOf({ name }: Candidate, results: Results): Findings {
  const gap = (gaps: Results['failed'], { id }: Scenario, reason: string) => {
    if (gaps.every(({ scenario, system }) => scenario !== id || system !== name))
      gaps.push({ scenario: id, system: name, reason });
  };
  return {
    introduce: (settings) => {
      results.systems.find((system) => system.name === name)!.settings = settings;
    },
    record(metric, value) {
      console.log(`    ${metric} ${value.toPrecision(4)}`);
      ((results.values[name] ??= {})[metric] ??= []).push(value);
    },
    missing: (scenario, reason) => gap(results.missing, scenario, reason),
    failed(scenario, reason) {
      console.log(`    ${scenario.id} failed: ${reason}`);
      gap(results.failed, scenario, reason);
    },
  };
}

async function emptyResults(server: Server, candidates: Candidate[], sizes: Sizes): Promise<Results> {
  const settings: Record<string, string> = {};
  for (const name of SETTINGS) settings[name] = await server.show(name);
  return {
    measuredAt: new Date().toISOString(),
    machine: {
      cpus: cpus().length,
      cpu: cpus()[0]!.model,
      memoryGiB: Math.round(totalmem() / 2 ** 30),
      node: process.version,
      postgres: await server.show('server_version'),
      settings,
    },
    sizes,
    systems: candidates.map(({ name, kind, version }) => ({ name, kind, version, settings: '' })),
    values: {},
    missing: [],
    failed: [],
  };
}
