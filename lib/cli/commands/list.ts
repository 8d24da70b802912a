import type { Attributes, RunStatus, RunSummary } from '../../engine/run.js';
import { toAttributes, toCount, toPastTime, toStatuses, toWorkflow } from '../arguments.js';
import type { CommandLine } from '../command-line.js';
import { findRunId } from '../run-reference.js';
import { describeProgress, describeStatus, shortened } from '../run-text.js';
import { type Column, toTable } from '../table.js';
import { describeAge } from '../time-text.js';

/** Of `list`, and of the commands that work on all runs of a filter. */
export interface FilterOptions {
  workflow?: ReturnType<typeof toWorkflow>;
  status?: RunStatus[];
  queue?: string;
  tenant?: string;
  attribute?: Attributes;
  parent?: string;
  roots?: true;
  after?: Date;
  before?: Date;
  search?: string;
}

interface ListOptions extends FilterOptions {
  limit?: number;
  cursor?: string;
}

export function addListCommand({ program, onEngine }: CommandLine): void {
  program
    .command('list')
    .description('The runs, newest first.')
    .option('--workflow <name>', 'of this workflow; `name@version` for one version', toWorkflow)
    .option('--status <status>', 'with this status, or one of several (pending,waiting)', toStatuses)
    .option('--queue <name>', 'on this queue')
    .option('--tenant <name>', 'of this tenant')
    .option('--attribute <name=value>', 'with this attribute; may be repeated', toAttributes)
    .option('--parent <run>', 'started by this run')
    .option('--roots', 'started by no run')
    .option('--after <time>', 'created since then: a time, or how long ago (2h)', toPastTime)
    .option('--before <time>', 'created before then', toPastTime)
    .option('--search <text>', 'with this text in the key or the label, or with this id')
    .option('--limit <count>', 'at most so many (1 to 1000)', toCount, 50)
    .option('--cursor <id>', 'the next page: what the one before said')
    .action((options: ListOptions) =>
      onEngine(async ({ orchestrator, engine, output }) => {
        const { limit, cursor } = options;
        const filter = await toFilter(options, (text) => findRunId(engine, text));
        const page = await orchestrator.list({ ...filter, limit, cursor });
        output.showPage(page, (runs) => toTable(runs, columnsOf(runs, output.width), output.width), 'No runs.');
      }),
    );
}

async function toFilter(options: FilterOptions, findId: (text: string) => Promise<string>) {
  const { workflow, status, queue, tenant, attribute, parent, roots, after, before, search } = options;
  return {
    ...{ ...workflow, status, queue, tenant, search, attributes: attribute, rootOnly: roots },
    ...{
      parentId: parent === undefined ? undefined : await findId(parent),
      createdAfter: after,
      createdBefore: before,
    },
  };
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
