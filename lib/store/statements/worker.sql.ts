import { WOKEN } from './wake.sql.js';
import { GATED_QUEUES, isGated, isOneOf, limitsOf, readyDefinitions } from './statement.js';

/** A worker and its lease. Takes: id, host, pid, lease in ms, queues, definitions. Returns: the time. */
const registerWorker = `
insert into @schema.worker (id, host, pid, started_at, heartbeat_at, expires_at, queues, definitions)
values (
  $1::uuid, $2::text, $3::int, @schema.engine_now(), @schema.engine_now(),
  @schema.engine_now() + make_interval(secs => $4::float8 / 1000), $5::text[], $6::text[]
)
on conflict (id) do update set expires_at = excluded.expires_at
returning extract(epoch from @schema.engine_now())::float8 * 1000 as at`;

/**
 * Gives blocked runs of a new worker's definitions one more try: it may have the code that they need. Others, which may have
 * blocked them, leave them to it for a second. Takes: worker id, definitions, the id after which to go on, limit. Locks those runs, in the
 * order of ids. Returns: the last of them and their number.
 */
const unblockRuns = `
with target as (
  select r.id
  from @schema.run r
  where r.status = 'blocked'
    and r.id > $3::uuid
    and ${isOneOf('r', '$2')}
  order by r.id
  limit $4::int
  for no key update
),
unblocked as (
  update @schema.run r
  set status = 'pending',
    ready_at = @schema.engine_now(),
    worker_id = $1::uuid,
    epoch = r.epoch + 1,
    error = null
  from target
  where r.id = target.id
  returning r.id
)
select count(*)::int as runs, max(id::text) as last_id
from unblocked`;

/**
 * A worker's regular look: the only statement of an idle one. Renews the lease while it is valid, when asked to.
 * Takes: worker id, queues, definitions, ms to renew by (or null), the runs it executes and their epochs. Locks the worker's row when it
 * renews. What is claimable is asked in the order of its index, for the reason that headOfQueues gives.
 */
const beat = `
with renewed as (
  update @schema.worker
  set heartbeat_at = @schema.engine_now(),
    expires_at = @schema.engine_now() + make_interval(secs => $4::float8 / 1000)
  where id = $1::uuid
    and expires_at > @schema.engine_now()
    and $4::float8 is not null
  returning id
)
select
  case when $4::float8 is null
    then exists (select from @schema.worker where id = $1::uuid and expires_at > @schema.engine_now())
    else exists (select from renewed)
  end as alive,
  exists (
    select
    from unnest((select $2::text[])) as queue(name)
    cross join lateral (${readyDefinitions('queue.name', '$3')}) definition
    where queue.name not in (${GATED_QUEUES})
  ) as ready,
  (
    select coalesce(json_agg(json_build_object(
      'queue', q.name,
      'perWorker', (${limitsOf('q')} ->> 'concurrencyPerWorker')::int,
      'ready', not q.paused and exists (${readyDefinitions('q.name', '$3')})
    )), '[]')
    from @schema.queue q
    where q.name = any($2::text[])
      and ${isGated('q')}
  ) as gates,
  (select extract(epoch from min(wake_at))::float8 * 1000 from @schema.run where wake_at is not null) as next_wake_at,
  (select extract(epoch from min(due_at))::float8 * 1000 from @schema.schedule where due_at is not null) as next_tick_at,
  exists (select from @schema.worker where expires_at <= @schema.engine_now()) as expired_workers,
  (
    select coalesce(json_agg(e.id), '[]')
    from unnest($5::uuid[], $6::int[]) as e(id, epoch)
    left join @schema.run r on r.id = e.id
    where r.epoch is distinct from e.epoch
  ) as lost,
  (
    select coalesce(json_agg(json_build_object(
      'id', r.id,
      'wakes', r.wakes,
      'cancelRequestedAt', extract(epoch from r.cancel_requested_at)::float8 * 1000,
      'cancelReason', r.cancel_reason,
      'paused', r.paused
    )), '[]')
    from @schema.run r
    where r.id = any($5::uuid[])
      and r.worker_id = $1::uuid
      and r.status = 'running'
      and (r.wakes > 0 or r.cancel_requested_at is not null or r.paused)
  ) as attention,
  extract(epoch from @schema.engine_now())::float8 * 1000 as at`;

/**
 * Returns runs of workers whose lease has expired, oldest first, under a higher epoch, so that nothing that those
 * workers still write is taken. A recovery counts when nothing was recorded since the one before. Parked runs lose their
 * place in the memory that is gone, so that anybody may go on with them as soon as they wake.
 * Takes: limit. Locks the expired workers and the runs; skips those that others are taking over.
 */
const takeOver = `
with expired as (
  select id
  from @schema.worker
  where expires_at <= @schema.engine_now()
  for update skip locked
),
lost as (
  select r.id, r.status = 'running' as was_running
  from @schema.run r
  -- As a list, not a join: the planner would read the runs of all workers for it.
  where r.worker_id = any(array(select id from expired))
  order by was_running desc, r.id
  limit $1::int
  for no key update of r skip locked
),
judged as materialized (
  select lost.*, (select coalesce(max(h.seq), 0) from @schema.history h where h.run_id = lost.id) as last_seq
  from lost
)
update @schema.run r
set status = case when was_running then 'pending' else r.status end,
  ready_at = case when was_running then @schema.engine_now() else r.ready_at end,
  worker_id = null,
  epoch = r.epoch + was_running::int,
  recoveries = case when not was_running then r.recoveries when judged.last_seq > r.recovered_seq then 1 else r.recoveries + 1 end,
  recovered_seq = case when was_running then judged.last_seq else r.recovered_seq end
from judged
where r.id = judged.id
returning ${WOKEN}`;

/** Locks expired workers, but for those that are just writing or being removed. Returns: their ids. */
const lockExpired = `
select id
from @schema.worker
where expires_at <= @schema.engine_now()
for update skip locked`;

/** Removes those of these workers that have no runs left. Takes: ids of workers that this transaction has locked. */
const removeExpired = `
delete from @schema.worker w
where w.id = any($1::uuid[])
  and not exists (
    select from @schema.run r
    where r.worker_id = w.id
  )`;

/**
 * Hands back what a worker has running, but for some. Parked runs lose their place in its memory too.
 * Takes: worker id, ids to leave. Locks the runs.
 */
const handBack = `
with target as (
  select id
  from @schema.run
  where worker_id = $1::uuid
    and status = 'running'
    and id <> all($2::uuid[])
  order by id
  for no key update
)
update @schema.run r
set status = 'pending',
  ready_at = @schema.engine_now(),
  worker_id = null,
  epoch = r.epoch + 1
from target
where r.id = target.id
returning ${WOKEN}`;

/** Takes: worker id. Its parked runs may be claimed by anybody at once when they wake. */
const removeWorker = `
with released as (
  update @schema.run
  set worker_id = null
  where worker_id = $1::uuid
    and status in ('waiting', 'pending')
)
delete from @schema.worker
where id = $1::uuid`;

/**
 * Names and versions that workers register. Also those whose leases are over and whose runs nobody has taken over: after an
 * outage that outlasted the leases, all are so until the first one is back.
 */
const liveDefinitions = `
select distinct unnest(definitions) as definition
from @schema.worker`;

/**
 * Whoever ends these runs shall announce it. Takes: run ids. Locks the runs, in the order of ids. Returns: those that have not
 * ended, and on which queue each is claimable: a claim skips what is locked here, so it has to be made again.
 */
const markWatched = `
with target as (
  select id
  from @schema.run
  where id = any($1::uuid[])
    and finished_at is null
  order by id
  for no key update
)
update @schema.run r
set watched = true
from target
where r.id = target.id
returning r.id, case when r.ready_at is not null then r.queue end as ready_on`;

export const workerStatements = {
  registerWorker,
  unblockRuns,
  beat,
  takeOver,
  lockExpired,
  removeExpired,
  handBack,
  removeWorker,
  liveDefinitions,
  markWatched,
};
