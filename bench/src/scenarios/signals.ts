import type { HostProcess } from '../host-process.js';
import { pause } from '../load.js';
import type { Scenario, Visit } from '../scenario.js';
import { median, percentile } from '../statistics.js';

const PATIENCE_MS = 120_000;

/** From the call that sends a signal to the end of the run that waits for it. */
export const signals: Scenario = {
  id: 'F',
  title: 'Signal to completion',
  needs: ['park', 'parked', 'signal', 'ended'],
  async measure(visit) {
    const host = await visit.host();
    await record(visit, host, 'F.same');
    const elsewhere = await visit.another({ worker: false });
    await record(visit, elsewhere, 'F.other');
  },
};

async function record(visit: Visit, sender: HostProcess, metric: string): Promise<void> {
  const host = await visit.host();
  const { signals: count, latencyMs } = visit.sizes;
  const ids = await host.call<string[]>('park', count);
  await untilParked(host, count);
  const times: number[] = [];
  const until = performance.now() + 2 * latencyMs;
  for (const id of ids) {
    const ended = host.timed('ended', id);
    const sent = sender.timed('signal', id);
    const [{ startedAt }, { endedAt }] = await Promise.all([sent, ended]);
    if (performance.now() < until) times.push(endedAt - startedAt);
  }
  visit.record(`${metric}P50`, median(times));
  visit.record(`${metric}P99`, percentile(times, 0.99));
}

export async function untilParked(host: HostProcess, count: number): Promise<void> {
  const until = performance.now() + PATIENCE_MS;
  while ((await host.call<{ waiting: number }>('parked')).waiting < count) {
    if (performance.now() > until) throw new Error(`${count} runs did not park within ${PATIENCE_MS / 1_000} s.`);
    await pause(100);
  }
}
