import type { HostProcess } from '../host-process.js';
import type { Scenario, Visit } from '../scenario.js';
import { median } from '../statistics.js';

const SLICES = 12;
const IN_FLIGHT = 50;
const PAUSE_MS = 100;

/**
 * An even load for a long time, at most 500 runs/s so that the disk holds them: nothing may grow but the number of finished runs. Compared are the
 * first sixth and the last one.
 */
export const soak: Scenario = {
  id: 'M',
  title: 'A long time of load',
  needs: ['oneStep'],
  kinds: ['ours', 'durable', 'queue'],
  async measure(visit) {
    const host = await visit.host();
    const slices = [];
    for (let slice = 0; slice < SLICES; slice++) slices.push(await measureSlice(visit, host));
    for (const name of Object.keys(slices[0]!) as (keyof Slice)[]) {
      const values = slices.map((slice) => slice[name]);
      visit.record(`M.first.${name}`, mean(values.slice(0, SLICES / 6)));
      visit.record(`M.last.${name}`, mean(values.slice(-SLICES / 6)));
    }
  },
};

interface Slice {
  perSecond: number;
  idleP50: number;
  memoryMiB: number;
  deadRowShare: number;
  bytesPerRow: number;
}

async function measureSlice({ sizes, server, url }: Visit, host: HostProcess): Promise<Slice> {
  const { perSecond } = await host.steady('oneStep', {
    inFlight: IN_FLIGHT,
    pauseMs: PAUSE_MS,
    warmMs: 0,
    measureMs: sizes.soakMs / SLICES,
  });
  const times = await host.latencies('oneStep', { count: sizes.latencyCount, limitMs: sizes.latencyMs });
  const { rows, deadRows, bytes } = await server.tables(url);
  return {
    perSecond,
    idleP50: median(times),
    memoryMiB: await host.memory(),
    deadRowShare: deadRows / rows,
    bytesPerRow: bytes / rows,
  };
}

function mean(values: number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
