import { describeDuration } from '../time-text.js';
import { type Check, notice, problem } from './finding.js';

const CLOCK_TOLERANCE_MS = 5_000;
const FUTURE_TOLERANCE_MS = 60_000;

/** What may be wrong with the database, and with the way to it. */
export const DATABASE_CHECKS: Check[] = [
  {
    name: 'read-only',
    find: async ({ diagnosis }) =>
      (await diagnosis.isReadOnly())
        ? [
            problem(
              'The database takes no writes: it is a standby, or was set read-only.',
              'Point the apps at the primary; after a failover, at the new one. Workers go on by themselves once they can write.',
            ),
          ]
        : [],
  },
  {
    name: 'clock',
    find: async ({ diagnosis }) => {
      const { at, movedMs, aheadMs } = await diagnosis.clock();
      const hostMs = Date.now() - at;
      return [
        ...(Math.abs(movedMs) > 1_000
          ? [
              problem(
                `The engine's clock is ${describeDuration(Math.abs(movedMs))} ${movedMs > 0 ? 'ahead of' : 'behind'} the database's.`,
                'A test has moved it: drop this schema, or make its function engine_now() return now() again.',
              ),
            ]
          : []),
        ...(aheadMs !== null && aheadMs > FUTURE_TOLERANCE_MS
          ? [
              problem(
                `What was written last is from the future, by ${describeDuration(aheadMs)}: the database's clock has gone back.`,
                'Set the clock of the database server (NTP). Until it has caught up, leases and timers take so much longer.',
              ),
            ]
          : []),
        ...(Math.abs(hostMs) > CLOCK_TOLERANCE_MS
          ? [
              notice(
                `The clock of this machine is ${describeDuration(Math.abs(hostMs))} ${hostMs > 0 ? 'ahead of' : 'behind'} the database's.`,
                'The engine goes by the database alone; but the ages that this command shows are wrong by that. Set one of them (NTP).',
              ),
            ]
          : []),
      ];
    },
  },
  {
    name: 'pooler',
    find: async ({ engine, listen }) => {
      await listen();
      return engine.store.hints.isHeard
        ? []
        : [
            problem(
              'No notification comes through this connection, as behind a pooler in transaction mode: workers that connect like this poll.',
              'Give the apps a direct connection for notifications (forRoot({ listenUrl })), or a pooler in session mode.',
            ),
          ];
    },
  },
  {
    name: 'missing-index',
    find: async ({ diagnosis }) =>
      (await diagnosis.lostIndexes()).map(({ name, statement, isInvalid }) =>
        problem(
          `The index ${name} is ${isInvalid ? 'not valid' : 'missing'}: statements that need it read whole tables.`,
          `${isInvalid ? 'Drop it, and make it again' : 'Make it again'}: ${statement};`,
        ),
      ),
  },
];
