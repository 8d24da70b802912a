import { pause } from '../load.js';
import type { Scenario, Visit } from '../scenario.js';
import { untilParked } from './signals.js';

const SIGNALS_AT_A_TIME = 200;
/** How long statements are counted. */
const WATCHED_MS = { small: 10_000, large: 30_000 };

/** What runs cost that wait, and how long it takes to wake them all. */
export const parkedRuns: Scenario = {
  id: 'G',
  title: 'Parked runs',
  needs: ['park', 'parked', 'signal'],
  async measure(visit) {
    await measure(visit, 'small');
    await visit.closeHost();
    await measure(visit, 'large');
  },
};

async function measure(visit: Visit, size: 'small' | 'large'): Promise<void> {
  const count = visit.sizes.parked[size];
  const host = await visit.host();
  await host.batch('oneStep', { count: SIGNALS_AT_A_TIME, inFlight: SIGNALS_AT_A_TIME });
  const memory = await host.memory();
  const before = await host.call<{ ended: number }>('parked');
  const ids = await host.call<string[]>('park', count);
  await untilParked(host, count);
  visit.record(`G.${size}MemoryMiB`, (await host.memory()) - memory);
  await recordStatements(visit, size);
  const startedAt = performance.now();
  for (let from = 0; from < count; from += SIGNALS_AT_A_TIME)
    await Promise.all(ids.slice(from, from + SIGNALS_AT_A_TIME).map((id) => host.call('signal', id)));
  while ((await host.call<{ ended: number }>('parked')).ended < before.ended + count) await pause(50);
  visit.record(`G.${size}WakeMs`, performance.now() - startedAt);
}

async function recordStatements(visit: Visit, size: 'small' | 'large'): Promise<void> {
  const before = await visit.server.statements(visit.url);
  await pause(WATCHED_MS[size]);
  const after = await visit.server.statements(visit.url);
  if (before === undefined || after === undefined) return;
  visit.record(`G.${size}StatementsPerSecond`, ((after - before) * 1_000) / WATCHED_MS[size]);
}
