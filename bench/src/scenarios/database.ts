import type { Scenario } from '../scenario.js';
import { RAW_CLIENTS } from '../system.js';
import { median } from '../statistics.js';

/** The database itself, measured between the systems. */
export const database: Scenario = {
  id: '0',
  title: 'The database itself',
  needs: ['raw'],
  kinds: ['database'],
  async measure(visit) {
    const { warmMs, measureMs, latencyCount: count, latencyMs: limitMs } = visit.sizes;
    const host = await visit.host();
    const { perSecond } = await host.steady('raw.commit', { inFlight: RAW_CLIENTS, warmMs, measureMs });
    visit.record('0.commitsPerSecond', perSecond);
    for (const [operation, metric] of [
      ['raw.twoCommits', '0.twoCommitsP50'],
      ['raw.select', '0.selectP50'],
      ['raw.fsync', '0.fsyncP50'],
    ] as const)
      visit.record(metric, median(await host.latencies(operation, { count, limitMs })));
  },
};
