import { aliveWorker } from './start.sql.js';
import { GATED_QUEUES, isOneOf, urgency } from './statement.js';

/**
 * Whether a worker may claim the run of that alias. A run that is parked in another process is left to that one for a second:
 * there it goes on without a replay.
 */
export const MAY_CLAIM = (run: string, workerId: string, definitions: string) => `${run}.ready_at is not null
      and not ${run}.paused
      and (${run}.worker_id is null or ${run}.worker_id = ${workerId}::uuid or ${run}.ready_at < @schema.engine_now() - interval '1 second')
      and ${isOneOf(run, definitions)}`;

/** What executing a run needs of its row. */
const RUN_FACTS = `r.id, r.workflow, r.version, r.key, r.queue, r.priority, r.tenant, r.attributes, r.input, r.context, r.trace,
  r.parent_id, r.awaited, r.root_id, r.depth, r.epoch, r.wakes, r.recoveries, r.generation, r.ancestors,
  extract(epoch from coalesce(r.history_begins_at, r.started_at))::float8 * 1000 as started_at,
  extract(epoch from r.retried_at)::float8 * 1000 as retried_at,
  extract(epoch from r.deadline)::float8 * 1000 as deadline,
  extract(epoch from r.cancel_requested_at)::float8 * 1000 as cancel_requested_at, r.cancel_reason,
  extract(epoch from @schema.engine_now())::float8 * 1000 as at`;

/** Makes the runs of the CTE `candidate` a worker's own, and sets `more` of them. Raises their epochs, under which writes are numbered anew. */
export const CLAIMING = (workerId: string, more = '') => `update @schema.run r
set status = 'running',
  worker_id = ${workerId}::uuid,
  epoch = r.epoch + 1,
  write_no = 0,
  ready_at = null,
  wake_at = null,
  waiting_for = null,
  started_at = coalesce(r.started_at, @schema.engine_now())${more}
from candidate
where r.id = candidate.id
returning ${RUN_FACTS}, candidate.fresh, extract(epoch from candidate.ready_at)::float8 * 1000 as ready_at`;

/**
 * Takes claimable runs for a worker: of each of its queues the most urgent, then of those the most urgent overall. Queues
 * that are paused or have limits are left out: see claimGated.
 *
 * A worker whose lease has expired takes nothing: it does not know it yet, and nobody would return what it took.
 * Takes: worker id, queues, definitions, limit. Locks the runs it takes; skips those that others are taking.
 * Returns: what executing them needs.
 */
const claimRuns = `
with ${aliveWorker('$1', 'true')},
candidate as (
  select head.id, head.started_at is null as fresh, head.ready_at, head.urgency
  from unnest((select $2::text[])) as queue(name)
  cross join lateral (
    select r.id, r.started_at, r.ready_at, ${urgency('r')} as urgency
    from @schema.run r
    where r.queue = queue.name
      and ${MAY_CLAIM('r', '$1', '$3')}
    order by ${urgency('r')}, r.id
    limit $4::int
    for no key update skip locked
  ) head
  where exists (select from alive)
    and queue.name not in (${GATED_QUEUES})
  order by head.urgency, head.id
  limit $4::int
)
${CLAIMING('$1')}`;

/** What executing a run would need, without claiming it. Takes: run id. Locks nothing. */
const loadRun = `
select ${RUN_FACTS}, r.started_at is null as fresh, null as ready_at, r.status
from @schema.run r
where r.id = $1::uuid`;

/** The recorded outcomes of runs, in their order. Takes: run ids. Locks nothing. */
const loadOutcomes = `
select h.run_id, h.seq, h.kind, h.scope, h.name, h.ordinal, h.status, h.digest, h.output, h.error, h.attempts, h.after_seq, h.child_id,
  extract(epoch from h.started_at)::float8 * 1000 as started_at,
  extract(epoch from h.finished_at)::float8 * 1000 as finished_at
from @schema.history h
where h.run_id = any($1::uuid[])
order by h.run_id, h.seq`;

/** The children of runs that still hold their refs. Takes: run ids. Locks nothing. */
const loadChildren = `
select c.parent_id, c.id, c.ref, c.scope, c.workflow, c.version, c.input_digest, c.status, c.awaited, c.closes_with_parent, c.cascades, c.carried_over
from @schema.run c
where c.parent_id = any($1::uuid[])
  and not c.superseded`;

/** The ends of those of these runs that have one. Takes: run ids. Locks nothing. */
const loadEnds = `
select r.id, r.workflow, r.status, r.output, r.error, extract(epoch from r.finished_at)::float8 * 1000 as ended_at
from @schema.run r
where r.id = any($1::uuid[])
  and r.finished_at is not null
order by r.finished_at, r.id`;

export const claimStatements = { claimRuns, loadRun, loadOutcomes, loadChildren, loadEnds };
