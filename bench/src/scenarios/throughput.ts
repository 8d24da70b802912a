import type { Operation } from '../protocol.js';
import { IN_FLIGHT } from '../system.js';
import { median, percentile } from '../statistics.js';
import type { Scenario, Visit } from '../scenario.js';

export const oneStep: Scenario = {
  id: 'A',
  title: 'Runs of one step',
  needs: ['oneStep'],
  measure: (visit) => throughput(visit, 'oneStep', 'A.perSecond'),
};

export const tenSteps: Scenario = {
  id: 'B',
  title: 'Runs of ten steps',
  needs: ['tenSteps'],
  measure: (visit) => throughput(visit, 'tenSteps', 'B.stepsPerSecond', 10),
};

export const parentAndChild: Scenario = {
  id: 'C',
  title: 'Parent and child',
  needs: ['parentChild'],
  async measure(visit) {
    await throughput(visit, 'parentChild', 'C.perSecond');
    await idleLatency(visit, 'parentChild', 'C.idle');
  },
};

export const idleOneStep: Scenario = {
  id: 'E',
  title: 'One step on an idle system',
  needs: ['oneStep'],
  measure: (visit) => idleLatency(visit, 'oneStep', 'E.idle'),
};

async function throughput(visit: Visit, operation: Operation, metric: string, factor = 1): Promise<void> {
  const { warmMs, measureMs } = visit.sizes;
  const { perSecond, cpuMs } = await (await visit.host()).steady(operation, { inFlight: IN_FLIGHT, warmMs, measureMs });
  visit.record(metric, perSecond * factor);
  visit.record(`${metric[0]}.nodeCpuMs`, cpuMs);
}

async function idleLatency(visit: Visit, operation: Operation, metric: string): Promise<void> {
  const { latencyCount: count, latencyMs: limitMs } = visit.sizes;
  const times = await (await visit.host()).latencies(operation, { count, limitMs });
  visit.record(`${metric}P50`, median(times));
  visit.record(`${metric}P99`, percentile(times, 0.99));
}
