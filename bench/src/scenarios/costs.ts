import type { Operation } from '../protocol.js';
import type { Counters } from '../server.js';
import { IN_FLIGHT, type System } from '../system.js';
import type { Scenario, Visit } from '../scenario.js';

type Cost = Counters & { cpuMs: number | undefined };

/**
 * What a run costs the database. Counted from before the system's process starts until after it has ended, since backends report what they did at
 * their end; what a start without runs costs is subtracted.
 */
export const costs: Scenario = {
  id: 'J',
  title: 'What a run costs the database',
  needs: ['oneStep'],
  async measure(visit) {
    const host = await visit.host();
    const operations = (['oneStep', 'tenSteps', 'parentChild'] as const).filter((name) =>
      host.operations.includes(name),
    );
    await visit.closeHost();
    const idle = await costOf(visit, undefined, 0);
    for (const operation of operations) await record(visit, operation, idle);
  },
};

async function record(visit: Visit, operation: keyof System & Operation, idle: Cost): Promise<void> {
  const { costRuns: runs } = visit.sizes;
  const cost = await costOf(visit, operation, runs);
  for (const name of ['statements', 'commits', 'walBytes', 'cpuMs'] as const) {
    const [busy, start] = [cost[name], idle[name]];
    if (busy !== undefined && start !== undefined) visit.record(`J.${operation}.${name}`, (busy - start) / runs);
  }
}

async function costOf(visit: Visit, operation: Operation | undefined, count: number): Promise<Cost> {
  const { server, url } = visit;
  const before = await server.counters(url);
  const host = await visit.host();
  if (operation) await host.batch(operation, { count, inFlight: IN_FLIGHT });
  const cpuMs = await server.cpuMs(url);
  await visit.closeHost();
  const after = await server.counters(url);
  return {
    statements: minus(after.statements, before.statements),
    commits: after.commits - before.commits,
    walBytes: after.walBytes - before.walBytes,
    cpuMs,
  };
}

function minus(after: number | undefined, before: number | undefined): number | undefined {
  return after === undefined || before === undefined ? undefined : after - before;
}
