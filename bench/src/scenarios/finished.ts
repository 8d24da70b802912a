import type { HostProcess } from '../host-process.js';
import { IN_FLIGHT } from '../system.js';
import type { Scenario, Visit } from '../scenario.js';
import { median } from '../statistics.js';

const PAGES = 5;
const LOADED_AT_A_TIME = 250_000;

/** Claims, starts and lists on an empty table, and on one with millions of finished runs. */
export const finishedRuns: Scenario = {
  id: 'L',
  title: 'Millions of finished runs',
  needs: ['finished'],
  kinds: ['ours'],
  async measure(visit) {
    await measure(visit, 'empty');
    const host = await visit.host();
    const { finished: count } = visit.sizes;
    for (let first = 0; first < count; first += LOADED_AT_A_TIME)
      await host.call('finished.load', first, Math.min(first + LOADED_AT_A_TIME, count) - 1, count);
    await host.call('finished.settle');
    await measure(visit, 'full');
  },
};

async function measure(visit: Visit, state: 'empty' | 'full'): Promise<void> {
  const { warmMs, measureMs, latencyCount: count, latencyMs: limitMs } = visit.sizes;
  const host = await visit.host();
  const runs = await host.steady('oneStep', { inFlight: IN_FLIGHT, warmMs, measureMs });
  visit.record(`L.${state}.perSecond`, runs.perSecond);
  visit.record(`L.${state}.startP50`, median(await host.latencies('finished.start', { count, limitMs })));
  const claims = await host.timed('manyOneSteps', visit.sizes.fanOut.large);
  visit.record(`L.${state}.claimedMs`, claims.endedAt - claims.startedAt);
  await recordFirstPages(visit, host, state);
}

async function recordFirstPages(visit: Visit, host: HostProcess, state: string): Promise<void> {
  const pages = [];
  for (let page = 0; page < PAGES; page++) pages.push(await host.call<Record<string, number>>('finished.firstPages'));
  for (const list of Object.keys(pages[0]!))
    visit.record(`L.${state}.list.${list}`, median(pages.map((times) => times[list]!)));
}
