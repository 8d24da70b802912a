import type { Schedule, ScheduleSummary } from '../../engine/schedule-store.js';
import { toCount } from '../arguments.js';
import type { CommandLine } from '../command-line.js';
import { styled } from '../output.js';
import { describePayload } from '../payload-text.js';
import { type Column, toFacts, toTable } from '../table.js';
import { describeAge, describeDuration, describeTime } from '../time-text.js';

export function addSchedulesCommand({ program, onEngine }: CommandLine): void {
  const schedules = program.command('schedules').description('What starts runs at times.');
  schedules
    .command('list', { isDefault: true })
    .description('The schedules, in the order of their ids.')
    .option('--limit <count>', 'at most so many (1 to 1000)', toCount, 50)
    .option('--cursor <id>', 'the next page: what the one before said')
    .action((filter: { limit: number; cursor?: string }) =>
      onEngine(async ({ orchestrator, output }) => {
        const page = await orchestrator.schedules.list(filter);
        output.showPage(page, (items) => toTable(items, COLUMNS, output.width), 'No schedules.');
      }),
    );
  schedules
    .command('get')
    .description('A schedule with the input of its runs.')
    .argument('<schedule>', 'its id')
    .action((id: string) =>
      onEngine(async ({ orchestrator, output }) => {
        const schedule = await orchestrator.schedules.get(id);
        output.show(schedule, () => describe(schedule, output.width));
      }),
    );
  schedules
    .command('trigger')
    .description('Starts a run now, as a tick would, also while the schedule is paused.')
    .argument('<schedule>', 'its id')
    .action((id: string) =>
      onEngine(async ({ orchestrator, output }) => {
        const run = await orchestrator.schedules.trigger(id);
        output.show({ id: run.id, started: run.started }, () => run.id);
        if (!run.started) output.remark('The overlap rule started none beside this run.');
      }),
    );
  const changes = [
    ['pause', 'Its ticks start nothing until it is resumed, and are not made up for.', 'is paused'],
    ['resume', 'Starts runs again.', 'starts runs again'],
    ['delete', 'Its runs go on. One that a workflow declares comes back at the next boot of its app.', 'is deleted'],
  ] as const;
  for (const [verb, description, done] of changes)
    schedules
      .command(verb)
      .description(description)
      .argument('<schedule>', 'its id')
      .action((id: string) =>
        onEngine(async ({ orchestrator, output }) => {
          await orchestrator.schedules[verb](id);
          output.show({ id }, () => `${id}: ${done}`);
        }),
      );
}

const COLUMNS: Column<ScheduleSummary>[] = [
  { title: 'SCHEDULE', cell: ({ id }) => id, isCuttable: true },
  { title: '', cell: ({ paused }) => (paused ? styled('yellow', 'paused') : '') },
  { title: 'WORKFLOW', cell: ({ workflow }) => workflow, isCuttable: true },
  { title: 'TIMES', cell: describeTiming, isCuttable: true },
  { title: 'OVERLAP', cell: ({ overlap }) => overlap },
  { title: 'LAST', cell: ({ lastRunAt }) => (lastRunAt ? describeAge(lastRunAt) : 'never') },
  { title: 'NEXT', cell: ({ nextRunAt }) => (nextRunAt ? describeAge(nextRunAt) : '') },
];

function describeTiming({ cron, every, timeZone }: ScheduleSummary): string {
  return cron === undefined ? `every ${describeDuration(every!)}` : `${cron} (${timeZone})`;
}

function describe(schedule: Schedule, width: number): string {
  const { id, workflow, paused, overlap, missed, jitter, declared, createdAt, lastRunAt, lastRunId, nextRunAt } =
    schedule;
  return toFacts({
    schedule: paused ? `${id} ${styled('yellow', 'paused')}` : id,
    workflow,
    times: describeTiming(schedule),
    jitter: jitter ? describeDuration(jitter) : undefined,
    overlap,
    missed,
    declared: declared ? 'by the workflow' : undefined,
    created: describeTime(createdAt),
    last: lastRunAt && describeTime(lastRunAt),
    'last run': lastRunId,
    next: nextRunAt && describeTime(nextRunAt),
    input: describePayload(schedule.input, { columns: width - 12, lines: Infinity }),
  });
}
