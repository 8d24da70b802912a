/*
 * What may be wrong, for `orchestration doctor`. Nothing here is hot: some look at every active run. Each locks nothing, and returns
 * a few rows, whatever there is. Times are epoch ms.
 */

const MOST_ROWS = 20;
const LIVE = `select w.* from @schema.worker w where w.expires_at > @schema.engine_now()`;
const NOW = `@schema.engine_now()`;
const ms = (time: string) => `extract(epoch from ${time})::float8 * 1000`;
const before = (parameter: string) => `${NOW} - make_interval(secs => ${parameter}::float8 / 1000)`;
const definition = (run: string) => `${run}.workflow || '@' || ${run}.version`;

/** How far the engine's clock is from the database's, and how far ahead of it the newest times that were written are. */
const describeClock = `
select ${ms('clock_timestamp()')} as at,
  extract(epoch from ${NOW} - now())::float8 * 1000 as moved_ms,
  extract(epoch from greatest(
    (select max(heartbeat_at) from @schema.worker),
    (select max(newest.created_at) from (select created_at from @schema.run order by id desc limit 100) newest)
  ) - ${NOW})::float8 * 1000 as ahead_ms`;

const askReadOnly = `select pg_is_in_recovery() or current_setting('transaction_read_only') = 'on' as is_read_only`;

/** Takes: the schema. */
const listIndexes = `
select index.relname as name, i.indisvalid as is_valid
from pg_index i
join pg_class index on index.oid = i.indexrelid
join pg_namespace n on n.oid = index.relnamespace
where n.nspname = $1::text`;

const countFleet = `
select (select count(*)::int from (${LIVE}) live) as live,
  exists (select from @schema.run where finished_at is null) as has_active_runs`;

const listDeadWorkers = `
select w.id, w.host, w.pid, ${ms('greatest(w.expires_at, w.heartbeat_at)')} as expired_at,
  (select count(*)::int from @schema.run r where r.worker_id = w.id and r.status = 'running') as runs
from @schema.worker w
where w.expires_at <= ${NOW}
order by w.expires_at
limit ${MOST_ROWS}`;

/** Active runs that no live worker has the code of, but for blocked ones. */
const listUnservedDefinitions = `
select r.workflow, r.version, count(*)::int as runs, (array_agg(r.id order by r.id))[1] as example
from @schema.run r
where r.finished_at is null
  and r.status <> 'blocked'
  and ${definition('r')} not in (select unnest(live.definitions) from (${LIVE}) live)
group by r.workflow, r.version
order by runs desc
limit ${MOST_ROWS}`;

/** Claimable runs on queues that no live worker serves. */
const listUnservedQueues = `
select r.queue, count(*)::int as runs, ${ms('min(r.ready_at)')} as since
from @schema.run r
where r.ready_at is not null
  and r.queue not in (select unnest(live.queues) from (${LIVE}) live)
group by r.queue
order by runs desc
limit ${MOST_ROWS}`;

/** Claimable runs that a live worker could take, and has not for so long. Takes: ms. */
const listOverdue = `
select r.queue, r.gated, count(*)::int as runs, ${ms('min(r.ready_at)')} as since
from @schema.run r
where r.ready_at < ${before('$1')}
  and not r.paused
  and r.queue not in (select q.name from @schema.queue q where q.paused)
  and exists (
    select from (${LIVE}) live
    where r.queue = any(live.queues)
      and ${definition('r')} = any(live.definitions)
  )
group by r.queue, r.gated
order by runs desc
limit ${MOST_ROWS}`;

/** Parked runs whose time has come so long ago. Takes: ms. */
const countOverdueTimers = `
select count(*)::int as runs, ${ms('min(wake_at)')} as since
from @schema.run
where wake_at < ${before('$1')}
  and not paused`;

const listPausedQueues = `
select q.name, count(r.id)::int as runs
from @schema.queue q
join @schema.run r on r.queue = q.name and r.ready_at is not null
where q.paused
group by q.name
order by q.name
limit ${MOST_ROWS}`;

/** With the newest of each, and its error. */
const listBlocked = `
select blocked.*, r.error
from (
  select workflow, version, count(*)::int as runs, (array_agg(id order by id desc))[1] as example
  from @schema.run
  where status = 'blocked'
  group by workflow, version
) blocked
join @schema.run r on r.id = blocked.example
order by blocked.runs desc
limit ${MOST_ROWS}`;

/** Runs of a worker that is not there, which nobody would ever take over. */
const listOrphans = `
select r.id, r.workflow, r.version
from @schema.run r
where r.worker_id is not null
  and r.status = 'running'
  and not exists (select from @schema.worker w where w.id = r.worker_id)
order by r.id
limit ${MOST_ROWS}`;

/** Runs that execute and have recorded nothing for so long. Takes: ms. */
const listSilent = `
select silent.*
from (
  select r.id, r.workflow, r.version,
    ${ms('greatest(r.started_at, (select max(h.finished_at) from @schema.history h where h.run_id = r.id))')} as since
  from @schema.run r
  join (${LIVE}) live on live.id = r.worker_id
  where r.status = 'running'
) silent
where silent.since < ${ms(before('$1'))}
order by silent.since
limit ${MOST_ROWS}`;

/** Active runs that have lost their worker so often without recording anything. Takes: count. */
const listCrashing = `
select id, workflow, version, recoveries
from @schema.run
where finished_at is null
  and recoveries >= $1::int
order by recoveries desc
limit ${MOST_ROWS}`;

/** Takes: number of entries. */
const listLongHistories = `
select r.id, r.workflow, r.version, newest.seq as entries
from @schema.run r
cross join lateral (
  select h.seq from @schema.history h where h.run_id = r.id order by h.seq desc limit 1
) newest
where r.finished_at is null
  and newest.seq >= $1::int
order by newest.seq desc
limit ${MOST_ROWS}`;

/** Runs that were to be cancelled so long ago, and have not ended. Takes: ms. */
const listUnwinding = `
select id, workflow, version, ${ms('cancel_requested_at')} as since
from @schema.run
where finished_at is null
  and cancel_requested_at < ${before('$1')}
order by cancel_requested_at
limit ${MOST_ROWS}`;

/** Schedules that have not been fired so long after their time, or whose workflow no live worker has. Takes: ms. */
const listIdleSchedules = `
select s.id, s.workflow, s.due_at < ${before('$1')} as is_overdue,
  not exists (
    select from (${LIVE}) live, unnest(live.definitions) as registered(name)
    where starts_with(registered.name, s.workflow || '@')
  ) as is_unserved
from @schema.schedule s
where not s.paused
order by s.id`;

export const diagnosisStatements = {
  describeClock,
  askReadOnly,
  listIndexes,
  countFleet,
  listDeadWorkers,
  listUnservedDefinitions,
  listUnservedQueues,
  listOverdue,
  countOverdueTimers,
  listPausedQueues,
  listBlocked,
  listOrphans,
  listSilent,
  listCrashing,
  listLongHistories,
  listUnwinding,
  listIdleSchedules,
};
