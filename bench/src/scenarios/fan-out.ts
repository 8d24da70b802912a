import type { HostProcess } from '../host-process.js';
import type { Scenario } from '../scenario.js';

const TURNS = 3;

/** Children of one parent, beside as many runs that nobody waits for together. */
export const fanOut: Scenario = {
  id: 'D',
  title: 'Fan-out and fan-in',
  needs: ['fanOut'],
  async measure(visit) {
    const { small, large } = visit.sizes.fanOut;
    const host = await visit.host();
    await host.call('fanOut', small);
    visit.record('D.smallMs', await duration(host, 'fanOut', small));
    // In turn, since each is the quicker the more often both have been done in this process.
    for (let turn = 0; turn < TURNS; turn++) {
      visit.record('D.largeMs', await duration(host, 'fanOut', large));
      if (!host.operations.includes('manyOneSteps')) return;
      if (turn === 0) await host.call('manyOneSteps', small);
      visit.record('D.startManyMs', await duration(host, 'manyOneSteps', large));
    }
  },
};

async function duration(host: HostProcess, operation: 'fanOut' | 'manyOneSteps', count: number): Promise<number> {
  const { startedAt, endedAt } = await host.timed(operation, count);
  return endedAt - startedAt;
}
