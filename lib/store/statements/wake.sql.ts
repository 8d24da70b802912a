/** What every statement that wakes runs returns. */
export const WOKEN = 'r.id, r.status, r.epoch, r.wakes, r.queue, r.worker_id';

/** Wakes the runs of the CTE `target`, which has locked them. Each row is touched, also one that is not waiting. */
export const WAKE_TARGET = `update @schema.run r
set wakes = r.wakes + 1,
  status = case when r.status = 'waiting' then 'pending' else r.status end,
  ready_at = case when r.status = 'waiting' then @schema.engine_now() else r.ready_at end,
  wake_at = case when r.status = 'waiting' then null else r.wake_at end
from target
where r.id = target.id
returning ${WOKEN}`;

/** Makes due timers claimable, the earliest first. Takes: limit. Locks those runs, skips those that others are waking. */
const wakeDue = `
with due as (
  select id
  from @schema.run
  where wake_at <= @schema.engine_now()
  order by wake_at
  limit $1::int
  for no key update skip locked
)
update @schema.run r
set status = 'pending',
  ready_at = @schema.engine_now(),
  wake_at = null
from due
where r.id = due.id
returning ${WOKEN}`;

/**
 * Wakes runs because something happened to them. Touches each row whatever its status, so that a run that parks at this
 * moment notices. Takes: run ids. Locks them in the order of ids.
 */
const wakeRuns = `
with target as (
  select id
  from @schema.run
  where id = any($1::uuid[])
    and finished_at is null
  order by id
  for no key update
)
${WAKE_TARGET}`;

/**
 * Wakes the parents and watchers of runs that have ended. Takes: the ended runs. Locks those it wakes, in the order of ids.
 */
const wakeThoseWhoWaitFor = `
with target as (
  select id
  from @schema.run
  where finished_at is null
    and id in (
      select parent_id from @schema.run where id = any($1::uuid[]) and awaited
      union
      select watcher_id from @schema.watch where run_id = any($1::uuid[])
    )
  order by id
  for no key update
)
${WAKE_TARGET}`;

/** Tells other processes what they may want to look at. Takes: channel, JSON. */
const announce = `select pg_notify($1::text, $2::text)`;

export const wakeStatements = { wakeDue, wakeRuns, wakeThoseWhoWaitFor, announce };
