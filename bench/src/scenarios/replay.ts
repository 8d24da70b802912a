import { IN_FLIGHT } from '../system.js';
import type { Scenario } from '../scenario.js';
import { untilParked } from './signals.js';

const RUNS = 5;

/** Runs with a long history that another process has left; from their signal to their end, most of the time goes into the replay. */
export const replay: Scenario = {
  id: 'N',
  title: 'Replay',
  needs: ['longRun', 'parked', 'signal', 'ended'],
  async measure(visit) {
    const first = await visit.host();
    const ids = await Promise.all(
      Array.from({ length: RUNS }, () => first.call<string>('longRun', visit.sizes.replayed)),
    );
    await untilParked(first, RUNS);
    await visit.closeHost();
    const second = await visit.host();
    await second.batch('oneStep', { count: 10 * IN_FLIGHT, inFlight: IN_FLIGHT });
    for (const id of ids) {
      const ended = second.timed('ended', id);
      const [{ startedAt }, { endedAt }] = await Promise.all([second.timed('signal', id), ended]);
      visit.record('N.replayMs', endedAt - startedAt);
    }
  },
};
