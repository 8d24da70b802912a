import type { Scenario } from '../scenario.js';

const KIB = 1_024;
const SIZES = [
  { name: '1KiB', bytes: KIB, inFlight: 100 },
  { name: '64KiB', bytes: 64 * KIB, inFlight: 32 },
  { name: '1MiB', bytes: KIB * KIB, inFlight: 4 },
];

/** A text that hardly compresses, as the result of a step and of its run. Counted once. */
export const payloads: Scenario = {
  id: 'I',
  title: 'Payloads',
  needs: ['payload'],
  async measure(visit) {
    const { warmMs, measureMs } = visit.sizes;
    const host = await visit.host();
    for (const { name, bytes, inFlight } of SIZES) {
      await visit.server.settle(visit.url);
      const { perSecond } = await host.steady('payload', { args: [bytes], inFlight, warmMs: warmMs / 2, measureMs });
      visit.record(`I.${name}MBPerSecond`, (perSecond * bytes) / 1e6);
    }
  },
};
