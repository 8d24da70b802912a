import type { RunSummary } from '../../engine/run.js';
import { toCount } from '../arguments.js';
import type { CommandLine } from '../command-line.js';
import { addFilterOptions, type FilterOptions, toFilter } from '../filter.js';
import { findRunId } from '../run-reference.js';
import { describeProgress, describeStatus, shortened } from '../run-text.js';
import { type Column, toTable } from '../table.js';
import { describeAge } from '../time-text.js';

interface ListOptions extends FilterOptions {
  limit: number;
  cursor?: string;
}

export function addListCommand({ program, onEngine }: CommandLine): void {
  addFilterOptions(program.command('list').description('The runs, newest first.'))
    .option('--limit <count>', 'at most so many (1 to 1000)', toCount, 50)
    .option('--cursor <id>', 'the next page: what the one before said')
    .action((options: ListOptions) =>
      onEngine(async ({ orchestrator, engine, output }) => {
        const { limit, cursor } = options;
        const filter = await toFilter(options, (text) => findRunId(engine, text));
        const page = await orchestrator.list({ ...filter, limit, ...(cursor !== undefined && { cursor }) });
        output.showPage(page, (runs) => toTable(runs, columnsOf(runs, output.width), output.width), 'No runs.');
      }),
    );
}

function columnsOf(runs: readonly RunSummary[], width: number): Column<RunSummary>[] {
  const short = width === Infinity ? (id: string) => id : shortened(runs.map(({ id }) => id));
  const isCuttable = true;
  return [
    { title: 'ID', cell: ({ id }) => short(id) },
    { title: 'WORKFLOW', cell: ({ workflow, version }) => `${workflow}@${version}`, isCuttable },
    { title: 'STATUS', cell: describeStatus },
    { title: 'KEY', cell: ({ key }) => key ?? '', isCuttable },
    { title: 'TENANT', cell: ({ tenant }) => tenant ?? '', isCuttable },
    { title: 'CREATED', cell: ({ createdAt }) => describeAge(createdAt) },
    { title: 'PROGRESS', cell: describeProgress, isCuttable },
  ];
}
