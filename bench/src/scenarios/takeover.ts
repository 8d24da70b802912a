import { pause } from '../load.js';
import type { Scenario } from '../scenario.js';

/** Runs whose worker is killed, until another one has ended all of them, with the lease that is the default. */
export const takeover: Scenario = {
  id: 'H',
  title: 'SIGKILL and takeover',
  needs: ['doomed', 'ended'],
  async measure(visit) {
    const doomed = await visit.another({ hangs: true });
    const ids = await doomed.call<string[]>('doomed', visit.sizes.doomed);
    await pause(2_000);
    const heir = await visit.another();
    await doomed.kill();
    const startedAt = performance.now();
    await Promise.all(ids.map((id) => heir.call('ended', id)));
    visit.record('H.takeoverMs', performance.now() - startedAt);
  },
};
