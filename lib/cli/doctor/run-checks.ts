import type { Engine } from '../../engine/engine.js';
import { summariseError } from '../payload-text.js';
import { describeAge, describeDuration } from '../time-text.js';
import { type Check, count, problem } from './finding.js';

const CRASHES = 3;
const UNWINDING_MS = 10 * 60_000;

/** What may be wrong with runs, while there are workers for them. */
export const RUN_CHECKS: Check[] = [
  {
    name: 'blocked',
    find: async ({ diagnosis, engine }) =>
      (await diagnosis.blocked()).map(({ workflow, version, runs, example, error }) =>
        problem(
          `${count(runs, 'run')} of ${workflow}@${version} ${runs === 1 ? 'is' : 'are'} blocked. ${reasonOf(engine, error)}`,
          'Deploy code that fits their history (ctx.patched, or a new version): then they go on by themselves. Nothing is lost. ' +
            'See orchestration inspect, and orchestration retry.',
          [{ id: example }],
        ),
      ),
  },
  {
    name: 'orphan',
    find: async ({ diagnosis }) =>
      (await diagnosis.orphans()).map(({ id, workflow, version }) =>
        problem(
          `Run ${id} of ${workflow}@${version} is running under a worker that there is not: nobody would take it over.`,
          `Somebody has changed the tables by hand. orchestration cancel --terminate ${id}; orchestration retry ${id}`,
          [{ id }],
        ),
      ),
  },
  {
    name: 'silent',
    find: async ({ diagnosis, limits }) =>
      (await diagnosis.silent(limits.silentMs)).map(({ id, workflow, version, since }) =>
        problem(
          `Run ${id} of ${workflow}@${version} executes, and has recorded nothing for ${describeDuration(Date.now() - since.getTime())}.`,
          'A step hangs, or takes that long. Give it a timeout and heartbeats; orchestration cancel ends it.',
          [{ id }],
        ),
      ),
  },
  {
    name: 'crashing',
    find: async ({ diagnosis }) =>
      (await diagnosis.crashing(CRASHES)).map(({ id, workflow, version, recoveries }) =>
        problem(
          `Run ${id} of ${workflow}@${version} has lost its worker ${recoveries} times, without recording anything in between.`,
          'Its step kills the process: memory, a native module, an endless loop. It fails as RUN_POISONED after maxRecoveries.',
          [{ id }],
        ),
      ),
  },
  {
    name: 'unwinding',
    find: async ({ diagnosis }) =>
      (await diagnosis.unwinding(UNWINDING_MS)).map(({ id, workflow, version, since }) =>
        problem(
          `Run ${id} of ${workflow}@${version} was cancelled ${describeAge(since)}, and has not ended.`,
          `Its clean-up takes long, or nobody executes it. orchestration cancel --terminate ${id} ends it without.`,
          [{ id }],
        ),
      ),
  },
  {
    name: 'long-history',
    find: async ({ diagnosis, limits }) =>
      (await diagnosis.longHistories(limits.longHistory)).map(({ id, workflow, version, entries }) =>
        problem(
          `Run ${id} of ${workflow}@${version} has ${entries} entries in its history, which are read whenever it is taken up anew.`,
          'Begin anew now and then with ctx.continueAsNew, or give the work to children.',
          [{ id }],
        ),
      ),
  },
];

function reasonOf({ serializer }: Engine, error: string | null): string {
  return error === null ? '' : summariseError(serializer.showError(error));
}
