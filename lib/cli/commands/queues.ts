import { InvalidArgumentError } from 'commander';
import type { Duration } from '../../engine/duration.js';
import type { QueueLimits, QueueState } from '../../engine/queue-limits.js';
import { toCount, toDuration } from '../arguments.js';
import type { CommandLine } from '../command-line.js';
import { UsageError } from '../exit-code.js';
import { styled } from '../output.js';
import { type Column, toTable } from '../table.js';
import { describeAge, describeDuration } from '../time-text.js';

export function addQueuesCommand({ program, onEngine }: CommandLine): void {
  const queues = program.command('queues').description('The queues: what waits where, pausing them, their limits.');
  queues
    .command('list', { isDefault: true })
    .description('Every queue that has limits, is paused or has runs that are not finished.')
    .action(() =>
      onEngine(async ({ orchestrator, output }) => {
        const states = await orchestrator.queues.list();
        output.show(states, () => (states.length ? toTable(states, COLUMNS, output.width) : 'No queues.'));
      }),
    );
  const changes = [
    ['pause', 'Claims nothing from a queue until it is resumed; what is running goes on.', 'is paused'],
    ['resume', 'Claims from a queue again.', 'is claimed from'],
    ['reset', 'Gives a queue the limits of the configuration again.', 'has the limits of the configuration'],
  ] as const;
  for (const [verb, description, done] of changes)
    queues
      .command(verb)
      .description(description)
      .argument('<queue>', 'its name')
      .action((name: string) =>
        onEngine(async ({ orchestrator, output }) => {
          await orchestrator.queues[verb](name);
          output.show({ name }, () => `${name}: ${done}`);
        }),
      );
  queues
    .command('configure')
    .description('Gives a queue these limits, and no others, until it is reset.')
    .argument('<queue>', 'its name')
    .option('--concurrency <count>', 'runs that execute at a time', toCount)
    .option('--concurrency-per-worker <count>', 'the same in one process', toCount)
    .option('--concurrency-per-tenant <count>', 'the same of one tenant', toCount)
    .option('--rate-limit <count/duration>', 'runs that begin, such as 100/1s', toRateLimit)
    .option('--no-limits', 'no limits at all')
    .action((name: string, { limits: hasLimits, ...limits }: QueueLimits & { limits: boolean }) =>
      onEngine(async ({ orchestrator, output }) => {
        if (hasLimits === (Object.keys(limits).length === 0))
          throw new UsageError('Give the limits that the queue is to have, or --no-limits.');
        await orchestrator.queues.configure(name, limits);
        output.show({ name, limits }, () => `${name}: ${describeLimits(limits) || 'no limits'}`);
      }),
    );
}

function toRateLimit(text: string): { limit: number; per: Duration } {
  const [limit = '', per = '', ...rest] = text.split('/');
  if (rest.length > 0 || per === '')
    throw new InvalidArgumentError("It must be a count and a length of time: '100/1s'.");
  return { limit: toCount(limit), per: toDuration(per) };
}

const COLUMNS: Column<QueueState>[] = [
  { title: 'QUEUE', cell: ({ name }) => name, isCuttable: true },
  { title: '', cell: ({ paused }) => (paused ? styled('yellow', 'paused') : '') },
  { title: 'PENDING', cell: ({ pending }) => String(pending), isNumber: true },
  { title: 'RUNNING', cell: ({ running }) => String(running), isNumber: true },
  { title: 'DUE SINCE', cell: ({ oldestDueAt }) => (oldestDueAt ? describeAge(oldestDueAt) : '') },
  { title: 'LIMITS', cell: ({ limits }) => describeLimits(limits), isCuttable: true },
];

function describeLimits({ concurrency, concurrencyPerWorker, concurrencyPerTenant, rateLimit }: QueueLimits): string {
  const per = rateLimit && (typeof rateLimit.per === 'number' ? describeDuration(rateLimit.per) : rateLimit.per);
  return [
    ...(concurrency === undefined ? [] : [`${concurrency} at a time`]),
    ...(concurrencyPerWorker === undefined ? [] : [`${concurrencyPerWorker} per worker`]),
    ...(concurrencyPerTenant === undefined ? [] : [`${concurrencyPerTenant} per tenant`]),
    ...(rateLimit ? [`${rateLimit.limit} per ${per}`] : []),
  ].join(', ');
}
