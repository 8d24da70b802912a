import { RUN_STATUSES } from '../../engine/run.js';
import type { ActiveRuns, Stats } from '../../engine/statistics.js';
import type { CommandLine } from '../command-line.js';
import { styled } from '../output.js';
import { describeStatus } from '../run-text.js';
import { type Column, toFacts, toTable } from '../table.js';
import { describeAge } from '../time-text.js';

export function addStatusCommand({ program, onEngine }: CommandLine): void {
  program
    .command('status')
    .description('How many runs there are, where, and how large the tables are.')
    .action(() =>
      onEngine(async ({ orchestrator, output }) => {
        const stats = await orchestrator.stats();
        const workers = await orchestrator.workers.list();
        const alive = workers.filter((worker) => worker.alive).length;
        output.show({ ...stats, workers: { alive, dead: workers.length - alive } }, () =>
          describe(stats, { alive, dead: workers.length - alive, width: output.width }),
        );
      }),
    );
}

function describe(stats: Stats, { alive, dead, width }: { alive: number; dead: number; width: number }): string {
  const { runs, estimated, oldestDueAt } = stats;
  const facts = toFacts({
    workers: `${alive} alive${dead ? styled('red', `, ${dead} dead`) : ''}`,
    'oldest due': oldestDueAt ? describeAge(oldestDueAt) : 'nothing is due',
    ...Object.fromEntries(
      RUN_STATUSES.map((status) => [
        describeStatus({ status }),
        `${estimated.includes(status) ? '~' : ''}${runs[status].toLocaleString('en')}`,
      ]),
    ),
  });
  const sections = [
    toSection(stats.queues, QUEUES, width),
    toSection(stats.workflows, WORKFLOWS, width),
    toSection(stats.tables, TABLES, width),
  ];
  return [facts, ...sections.filter((section) => section !== '')].join('\n\n');
}

function toSection<Row>(rows: readonly Row[], columns: readonly Column<Row>[], width: number): string {
  return rows.length ? toTable(rows, columns, width) : '';
}

const ACTIVE: Column<ActiveRuns>[] = (['pending', 'running', 'waiting', 'blocked'] as const).map((status) => ({
  title: status.toUpperCase(),
  cell: (row) => row[status].toLocaleString('en'),
  isNumber: true,
}));

const QUEUES: Column<Stats['queues'][number]>[] = [
  { title: 'QUEUE', cell: ({ queue }) => queue, isCuttable: true },
  ...ACTIVE,
];

const WORKFLOWS: Column<Stats['workflows'][number]>[] = [
  { title: 'WORKFLOW', cell: ({ workflow }) => workflow, isCuttable: true },
  ...ACTIVE,
];

const TABLES: Column<Stats['tables'][number]>[] = [
  { title: 'TABLE', cell: ({ name }) => name },
  { title: 'ROWS', cell: ({ rows }) => `~${rows.toLocaleString('en')}`, isNumber: true },
  { title: 'SIZE', cell: ({ bytes }) => `${(bytes / 2 ** 20).toFixed(1)} MB`, isNumber: true },
];
