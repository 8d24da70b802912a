import pg from 'pg';

import { ArrayParameter } from '../../lib/store/array-parameter.js';

export interface PlanNode {
  'Node Type': string;
  'Relation Name'?: string;
  'Index Name'?: string;
  'Total Cost': number;
  'Actual Rows'?: number;
  'Rows Removed by Join Filter'?: number;
  'Shared Hit Blocks'?: number;
  'Shared Read Blocks'?: number;
  Operation?: string;
  Plans?: PlanNode[];
}

export interface Plan {
  nodes: PlanNode[];
  /** As the planner estimates it. */
  cost: number;
  /** How many blocks of the database were touched, by the node (with those below it) that touched most. */
  blocks: number;
}

/** The plan that a prepared statement gets, and what its execution touched; what it did is rolled back. */
export async function planOf(
  client: pg.Client,
  { text, values }: { text: string; values: readonly unknown[] },
  mode: 'force_custom_plan' | 'force_generic_plan',
): Promise<Plan> {
  const literals = values.map((value) => (value === null ? 'null' : pg.escapeLiteral(toLiteral(value))));
  await client.query(`set plan_cache_mode = ${mode}`);
  await client.query(`prepare planned as ${text}`);
  await client.query('begin');
  try {
    const execute = `explain (analyze, buffers, format json) execute planned${literals.length ? `(${literals.join(', ')})` : ''}`;
    const { rows } = await client.query<{ 'QUERY PLAN': [{ Plan: PlanNode }] }>(execute);
    const nodes = flatten(rows[0]!['QUERY PLAN'][0].Plan);
    const touched = nodes.map((node) => node['Shared Hit Blocks']! + node['Shared Read Blocks']!);
    return { nodes, cost: Math.max(...nodes.map((node) => node['Total Cost'])), blocks: Math.max(...touched) };
  } finally {
    await client.query('rollback');
    await client.query('deallocate planned');
  }
}

function flatten(node: PlanNode): PlanNode[] {
  return [node, ...(node.Plans ?? []).flatMap(flatten)];
}

/** The text form that PostgreSQL reads, for arrays too. */
function toLiteral(value: unknown): string {
  if (value instanceof ArrayParameter) return toLiteral(value.values);
  if (value instanceof Date) return value.toISOString();
  if (!Array.isArray(value)) return String(value);
  return `{${(value as (string | number | null)[]).map((item) => (item === null ? 'null' : JSON.stringify(`${item}`))).join(',')}}`;
}
