import type { Command } from 'commander';
import type { BulkFilter } from '../engine/bulk.js';
import type { Attributes, RunStatus } from '../engine/run.js';
import { toAttributes, toPastTime, toStatuses, toWorkflow } from './arguments.js';

/** Which runs: the options of `list`, and of the commands that work on many runs. */
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

export function addFilterOptions(command: Command): Command {
  return command
    .option('--workflow <name>', 'of this workflow; name@version for one version', toWorkflow)
    .option('--status <status>', 'with this status, or one of several (pending,waiting)', toStatuses)
    .option('--queue <name>', 'on this queue')
    .option('--tenant <name>', 'of this tenant')
    .option('--attribute <name=value>', 'with this attribute; may be repeated', toAttributes)
    .option('--parent <run>', 'started by this run')
    .option('--roots', 'started by no run')
    .option('--after <time>', 'created since then: a time, or how long ago (2h)', toPastTime)
    .option('--before <time>', 'created before then', toPastTime)
    .option('--search <text>', 'with this text in the key or the label, or with this id');
}

/** Undefined: nothing was named. */
export async function toFilter(
  options: FilterOptions,
  findId: (text: string) => Promise<string>,
): Promise<BulkFilter | undefined> {
  const { workflow, status, queue, tenant, attribute, parent, roots, after, before, search } = options;
  const filter = Object.entries({
    ...{ ...workflow, status, queue, tenant, search, attributes: attribute, rootOnly: roots },
    ...{ parentId: parent && (await findId(parent)), createdAfter: after, createdBefore: before },
  }).filter(([, value]) => value !== undefined);
  return filter.length ? Object.fromEntries(filter) : undefined;
}
