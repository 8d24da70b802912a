import { describeAge } from '../time-text.js';
import { type Check, count, notice, problem } from './finding.js';

const SCHEDULE_LATE_MS = 120_000;

/** Whether there is somebody to do the work. */
export const WORKER_CHECKS: Check[] = [
  {
    name: 'no-worker',
    find: async ({ diagnosis }) => {
      const { live, hasActiveRuns } = await diagnosis.fleet();
      return live === 0 && hasActiveRuns
        ? [
            problem(
              'There are active runs, and no worker is alive.',
              'Start a process of the app with a worker (not worker: false).',
            ),
          ]
        : [];
    },
  },
  {
    name: 'dead-worker',
    find: async ({ diagnosis }) =>
      (await diagnosis.deadWorkers()).map(({ id, host, pid, expiredAt, runs }) =>
        problem(
          `Worker ${id} (process ${pid} on ${host}) is dead: its lease ended ${describeAge(expiredAt)}, with ${count(runs, 'run')}.`,
          'A live worker takes its runs over within a second: start one. See in its log why it died.',
        ),
      ),
  },
  {
    name: 'unserved-workflow',
    find: async ({ diagnosis }) => {
      // Without any worker, each workflow would be one.
      if ((await diagnosis.fleet()).live === 0) return [];
      return (await diagnosis.unservedDefinitions()).map(({ workflow, version, runs, example }) =>
        problem(
          `${count(runs, 'run')} of ${workflow}@${version}: no live worker has that workflow in that version.`,
          'Deploy an app that provides it; keep the class of an old version until its runs have ended. Or cancel the runs.',
          [{ id: example }],
        ),
      );
    },
  },
  {
    name: 'unserved-queue',
    find: async ({ diagnosis }) => {
      if ((await diagnosis.fleet()).live === 0) return [];
      return (await diagnosis.unservedQueues()).map(({ queue, runs, since }) =>
        problem(
          `${count(runs, 'run')} on the queue '${queue}', the first claimable ${describeAge(since)}: no live worker serves it.`,
          `Add it to a worker: forRoot({ worker: { queues: ['${queue}', …] } }).`,
        ),
      );
    },
  },
  {
    name: 'overdue',
    find: async ({ diagnosis, limits }) =>
      (await diagnosis.overdue(limits.overdueMs)).map(({ queue, gated, runs, since }) =>
        problem(
          `${count(runs, 'run')} on the queue '${queue}' could have been claimed, the first ${describeAge(since)}.`,
          gated
            ? `The limits of the queue are too narrow for what comes, or its runs too slow: see \`orchestration queues\`.`
            : 'The workers have no free slots: start more of them, or raise worker.concurrency.',
        ),
      ),
  },
  {
    name: 'overdue-timer',
    find: async ({ diagnosis, limits }) => {
      const { live } = await diagnosis.fleet();
      const { runs, since } = await diagnosis.overdueTimers(limits.overdueMs);
      return runs > 0 && live > 0
        ? [
            problem(
              `${count(runs, 'parked run')} should have been woken, the first ${describeAge(since!)}.`,
              'The workers are alive, but do not get round to it: see their logs and the load of the database.',
            ),
          ]
        : [];
    },
  },
  {
    name: 'paused-queue',
    find: async ({ diagnosis }) =>
      (await diagnosis.pausedQueues()).map(({ name, runs }) =>
        notice(
          `The queue '${name}' is paused, and ${count(runs, 'run')} could be claimed.`,
          `If that is over: orchestration queues resume ${name}`,
        ),
      ),
  },
  {
    name: 'idle-schedule',
    find: async ({ diagnosis }) =>
      (await diagnosis.idleSchedules(SCHEDULE_LATE_MS)).map(({ id, workflow, isUnserved }) =>
        isUnserved
          ? problem(
              `The schedule '${id}' starts runs of '${workflow}', which no live worker has.`,
              `Deploy an app that provides it, or: orchestration schedules delete ${id}`,
            )
          : problem(
              `The schedule '${id}' is late.`,
              'Workers start what is due: see whether one is alive, and its log.',
            ),
      ),
  },
];
