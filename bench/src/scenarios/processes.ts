import { IN_FLIGHT } from '../system.js';
import type { Scenario } from '../scenario.js';

const PROCESSES = 4;

/** Four worker processes, each of which also starts its share of the runs. */
export const processes: Scenario = {
  id: 'K',
  title: 'Four worker processes',
  needs: ['oneStep', 'ended'],
  async measure(visit) {
    const { warmMs, measureMs } = visit.sizes;
    const hosts = await Promise.all(Array.from({ length: PROCESSES }, () => visit.another()));
    const results = await Promise.all(
      hosts.map((host) => host.steady('oneStep', { inFlight: IN_FLIGHT / PROCESSES, warmMs, measureMs })),
    );
    visit.record(
      'K.perSecond',
      results.reduce((sum, { perSecond }) => sum + perSecond, 0),
    );
  },
};
