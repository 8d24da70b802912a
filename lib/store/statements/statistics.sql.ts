/** The tables of the engine. Takes: schema. */
const tableSizes = `
select c.relname as name, greatest(c.reltuples, 0)::float8 as rows, pg_table_size(c.oid)::float8 as data_bytes,
  pg_total_relation_size(c.oid)::float8 as bytes
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1::text
  and c.relkind = 'r'
  and c.relname <> 'migrations'
order by bytes desc, name`;

/** Counts every run by reading all: for a table that is small. */
const countRuns = `
select status, queue, workflow, count(*)::int as runs, extract(epoch from min(ready_at))::float8 * 1000 as oldest_due_at
from @schema.run
group by status, queue, workflow`;

/** Counts the active runs that are claimable, timed, somebody's or blocked, each by its partial index. */
const countActiveRuns = `
select status, queue, workflow, count(*)::int as runs, extract(epoch from min(ready_at))::float8 * 1000 as oldest_due_at
from (
  select status, queue, workflow, ready_at
  from @schema.run
  where ready_at is not null
  union all
  select status, queue, workflow, null
  from @schema.run
  where worker_id is not null
    and status in ('running', 'waiting')
  union all
  select status, queue, workflow, null
  from @schema.run
  where wake_at is not null
    and (worker_id is null or status = 'pending')
  union all
  select status, queue, workflow, null
  from @schema.run
  where status = 'blocked'
    and status in ('failed', 'cancelled', 'blocked')
) active
group by status, queue, workflow`;

/** How often each status is, by the planner's statistics. Takes: schema. */
const statusFrequencies = `
select status, frequency
from pg_stats s
cross join lateral unnest(s.most_common_vals::text::text[], s.most_common_freqs) as common(status, frequency)
where s.schemaname = $1::text
  and s.tablename = 'run'
  and s.attname = 'status'`;

/** Every worker, and how many runs it executes. */
const listWorkers = `
select w.id, w.host, w.pid, w.started_at, w.heartbeat_at, w.expires_at > @schema.engine_now() as alive, w.queues, w.definitions,
  (select count(*) from @schema.run r where r.worker_id = w.id and r.status = 'running')::int as running
from @schema.worker w
order by w.started_at, w.id`;

export const statisticsStatements = { tableSizes, countRuns, countActiveRuns, statusFrequencies, listWorkers };
