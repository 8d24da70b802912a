import { isReadyOf, readyDefinitions, urgency } from './statement.js';

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

/** Counts the active runs, at a cost that does not grow with those that have ended. */
const countActiveRuns = `
select status, queue, workflow, count(*)::int as runs, extract(epoch from min(ready_at))::float8 * 1000 as oldest_due_at
from (
  select status, queue, workflow, ready_at
  from @schema.run
  where status in ('pending', 'waiting', 'blocked')
  union all
  select status, queue, workflow, null
  from @schema.run
  where worker_id is not null
    and status = 'running'
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

const AGE_MS = (time: string) => `extract(epoch from @schema.engine_now() - ${time})::float8 * 1000`;

/**
 * How the fleet is, at a cost that does not grow with what waits: of each queue that is not paused the run that is next, of each definition, the first timer
 * that is due, and workers that are dead and still have runs.
 * Takes: queues and definitions, or null for those of all live workers. Locks nothing.
 */
const lookAtHealth = `
with live as (
  select queues, definitions
  from @schema.worker
  where expires_at > @schema.engine_now()
),
served as materialized (
  select
    coalesce($1::text[], array(select distinct unnest(queues) from live)) as queues,
    coalesce($2::text[], array(select distinct unnest(definitions) from live)) as definitions
)
select
  (
    select max(${AGE_MS('head.ready_at')})
    from served
    cross join unnest(served.queues) as queue(name)
    cross join lateral (
      select first.ready_at
      from (${readyDefinitions('queue.name', 'served.definitions')}) definition
      cross join lateral (
        select r.ready_at
        from @schema.run r
        where ${isReadyOf('r', 'queue.name', 'definition')}
        order by ${urgency('r')}, r.id
        limit 1
      ) first
    ) head
    where not exists (select from @schema.queue q where q.name = queue.name and q.paused)
  ) as oldest_ready_ms,
  (
    select ${AGE_MS('r.wake_at')}
    from @schema.run r
    where r.wake_at <= @schema.engine_now()
      and not r.paused
    order by r.wake_at
    limit 1
  ) as oldest_timer_ms,
  (select count(*)::int from live) as live_workers,
  (
    select coalesce(json_agg(json_build_object(
      'id', w.id, 'host', w.host, 'pid', w.pid, 'deadMs', ${AGE_MS('greatest(w.heartbeat_at, w.expires_at)')}
    ) order by w.id), '[]')
    from @schema.worker w
    where w.expires_at <= @schema.engine_now()
      and exists (select from @schema.run r where r.worker_id = w.id and r.status = 'running')
  ) as dead_workers`;

export const statisticsStatements = {
  lookAtHealth,
  tableSizes,
  countRuns,
  countActiveRuns,
  statusFrequencies,
  listWorkers,
};
