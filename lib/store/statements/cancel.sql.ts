import { WOKEN } from './wake.sql.js';

/**
 * Requests the cancellation of runs and of all their active descendants: one round. Runs whose code has not begun, or
 * cannot run (blocked), end at once; the others are woken to unwind; `terminate` ends all.
 *
 * Every run it reaches is locked, which waits for a commit of that run that is just starting a child; such a child is not
 * in this round's snapshot. So rounds are repeated in one transaction until one reaches nobody; a run that was reached
 * can start no more children.
 * Takes: run ids, reason, the stored error of those that end, terminate. Locks the reached runs in the order of ids.
 * Returns: each reached run and what became of it.
 */
const requestCancel = `
with recursive family as (
  select id
  from @schema.run
  where id = any($1::uuid[])
  union
  select child.id
  from @schema.run child
  join family on child.parent_id = family.id
  where child.cascades
),
target as (
  select r.id, $4::bool or r.started_at is null or r.status = 'blocked' as ends
  from @schema.run r
  -- As a list, not a join: nobody can say how large a family is, and the planner would read all runs for it.
  where r.id = any(array(select id from family))
    and r.finished_at is null
    and (r.cancel_requested_at is null or $4::bool)
  order by r.id
  for no key update of r
),
closed_input as (
  delete from @schema.input i
  using target
  where i.run_id = target.id
    and target.ends
)
update @schema.run r
set cancel_requested_at = coalesce(r.cancel_requested_at, @schema.engine_now()),
  cancel_reason = coalesce(r.cancel_reason, $2::text),
  wakes = r.wakes + 1,
  epoch = case when $4::bool then r.epoch + 1 else r.epoch end,
  status = case
    when $4::bool or r.started_at is null or r.status = 'blocked' then 'cancelled'
    when r.status = 'waiting' then 'pending'
    else r.status
  end,
  error = case when $4::bool or r.started_at is null or r.status = 'blocked' then $3::text else r.error end,
  finished_at = case when $4::bool or r.started_at is null or r.status = 'blocked' then @schema.engine_now() end,
  ready_at = case
    when $4::bool or r.started_at is null or r.status = 'blocked' then null
    when r.status = 'waiting' then @schema.engine_now()
    else r.ready_at
  end,
  wake_at = null,
  waiting_for = null,
  paused = false
from target
where r.id = target.id
  and r.finished_at is null
  and (r.cancel_requested_at is null or $4::bool)
returning ${WOKEN}, r.watched, r.workflow, r.parent_id, r.root_id, extract(epoch from r.finished_at)::float8 * 1000 as ended_at`;

/** Which of these runs exist. Takes: run ids. */
const findRuns = `
select id
from @schema.run
where id = any($1::uuid[])`;

/** Locks a run for an operator's change. Takes: run id. Returns: its status and error. */
const lockRun = `
select r.status, r.error
from @schema.run r
where r.id = $1::uuid
for no key update`;

/** Forgets entries of a history. Takes: run id, their seqs. */
const forget = `
delete from @schema.history
where run_id = $1::uuid
  and seq = any($2::int[])`;

/**
 * Ended children make room for new ones: those without success that the run has no outcome of any more, and those that are
 * given. Takes: run id, ids of children.
 */
const supersedeEnded = `
update @schema.run child
set superseded = true
where child.parent_id = $1::uuid
  and child.finished_at is not null
  and (
    child.id = any($2::uuid[])
    or child.status in ('failed', 'cancelled')
    and not exists (
      select from @schema.history h
      where h.run_id = $1::uuid
        and h.child_id = child.id
        and h.kind = 'child'
    )
  )`;

/** Makes an ended or blocked run claimable again. Takes: run id. */
const reopenRun = `
update @schema.run r
set status = 'pending',
  ready_at = @schema.engine_now(),
  epoch = r.epoch + 1,
  worker_id = null,
  error = null,
  output = null,
  finished_at = null,
  cancel_requested_at = null,
  cancel_reason = null,
  compensation = 'none',
  paused = r.paused and r.finished_at is null,
  retried_at = case when r.finished_at is not null then @schema.engine_now() else r.retried_at end,
  deadline = case when r.deadline <= @schema.engine_now() then null else r.deadline end,
  recoveries = 0
where r.id = $1::uuid
returning ${WOKEN}`;

export const cancelStatements = {
  requestCancel,
  findRuns,
  lockRun,
  forget,
  supersedeEnded,
  reopenRun,
};
