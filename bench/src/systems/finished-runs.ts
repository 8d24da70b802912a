import type { ListFilter, Orchestrator } from 'nestjs-orchestration';
import type pg from 'pg';
import type { FinishedRuns } from '../system.js';
import { OneStepWorkflow } from './workflows.js';

/** Every list that people look at: all, by each filter that has an index of its own, and what is seldom. */
const LISTS: Record<string, ListFilter> = {
  all: {},
  roots: { rootOnly: true },
  'one workflow': { workflow: 'one-step' },
  completed: { status: 'completed' },
  failed: { status: 'failed' },
  pending: { status: 'pending' },
  running: { status: 'running' },
  waiting: { status: 'waiting' },
  'one workflow, failed': { workflow: 'one-step', status: 'failed' },
  'one tenant': { tenant: 'tenant-7' },
  'by attribute': { attributes: { city: 'Oslo' } },
  'search for a label': { search: 'label-77' },
};

export function finishedRuns(orchestrator: Orchestrator, pool: pg.Pool): FinishedRuns {
  return {
    async load(first, last, count) {
      await pool.query(LOAD, [first, last, count]);
    },
    async settle() {
      await pool.query('vacuum (analyze) orchestration.run');
      await pool.query('vacuum (analyze) orchestration.history');
    },
    start: () => orchestrator.start(OneStepWorkflow, 1),
    async firstPages() {
      const times: Record<string, number> = {};
      for (const [name, filter] of Object.entries(LISTS)) {
        const startedAt = performance.now();
        await orchestrator.list(filter);
        times[name] = performance.now() - startedAt;
      }
      return times;
    },
  };
}

/**
 * Finished one-step runs, with their outcomes, spread over the last 50 days: one in a hundred failed, one in ten with a tenant, a label
 * or attributes. The ids are made as uuid v7 of those times. Takes: the first and the last number, and how many there will be.
 */
const LOAD = `
with made as (
  select number, now() - interval '50 days' * (1 - number::float8 / $3) as at
  from generate_series($1::int, $2::int) number
),
identified as (
  select *, (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7'
    || substr(md5(number::text), 1, 3) || '8' || substr(md5(number::text), 4, 15))::uuid as id
  from made
),
run as (
  insert into orchestration.run (
    id, workflow, version, status, queue, tenant, label, attributes, input, input_digest, output, error,
    root_id, depth, epoch, write_no, created_at, started_at, finished_at
  )
  select id, 'one-step', 1, case when number % 100 = 0 then 'failed' else 'completed' end, 'default',
    case when number % 10 = 1 then 'tenant-' || number % 1000 end,
    case when number % 10 = 2 then 'label-' || number end,
    case when number % 10 = 3 then jsonb_build_object('city', case when number % 1000 = 3 then 'Oslo' else 'Bergen' end) end,
    '[1]', md5('1'),
    case when number % 100 > 0 then '[2]' end,
    case when number % 100 = 0 then '{"name":"Error","message":"no"}' end,
    id, 1, 1, 1, at, at, at
  from identified
  returning id, status, created_at
)
insert into orchestration.history (run_id, seq, kind, scope, name, ordinal, status, digest, output, attempts, after_seq, started_at, finished_at)
select id, 1, 'step', '', 'work', 1, status, md5('1'), '[2]', 1, 0, created_at, created_at
from run`;
