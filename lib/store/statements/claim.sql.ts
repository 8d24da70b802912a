import { USUAL_OUTCOME } from './commit.sql.js';
import { aliveWorker } from './new-runs.sql.js';
import {
  GATED_QUEUES,
  IS_READY,
  isReadyOf,
  MOST_DEFINITIONS,
  outputOf,
  readyDefinitions,
  urgency,
} from './statement.js';

/** A run that is parked in another process is left to that one for a second: there it goes on without a replay. */
export const IS_NOBODY_ELSES = (run: string, workerId: string) =>
  `(${run}.worker_id is null or ${run}.worker_id = ${workerId}::uuid or ${run}.ready_at < @schema.engine_now() - interval '1 second')`;

/** What a claim knows of a run that it may take. */
export const HEAD = `r.id, r.started_at is null as fresh, r.ready_at, ${urgency('r')} as urgency`;

/** How many of one queue and definition are looked at for those that no other claim is just taking. */
const LOOKED_AT = 1_000;

/**
 * The most urgent runs of a row of `ready`. A bound that the planner can see: by one that is a parameter it would take them for
 * a tenth of all, compile the statement and read whole tables.
 */
const MOST_URGENT = `
      select ${HEAD}
      from @schema.run r
      where ${isReadyOf('r', 'ready.name', 'ready')}
        and ${IS_NOBODY_ELSES('r', '$1')}
      order by ${urgency('r')}, r.id
      limit ${LOOKED_AT}`;

/**
 * The CTE `head`: the most urgent runs on the queues of the CTE `queue`, of the definitions $3, locked: $4 of them at least, if there are.
 *
 * First it is looked, without locks, how many of each queue and definition are among the most urgent, and so many are locked:
 * to lock as many of each as may be needed of one would hide them from the claims of others. But never less than an equal
 * part, for another claim may just be taking all of the most urgent.
 */
export const LOCKING_HEAD = `
ready as materialized (
  select queue.name, definition.workflow, definition.version
  from queue
  cross join lateral (${readyDefinitions('queue.name', '$3')}) definition
  limit (select ${MOST_DEFINITIONS})
),
part as (
  select name, workflow, version, count(*)::int as runs
  from (
    select ready.*
    from ready
    cross join lateral (
      select * from (${MOST_URGENT}
      ) of_one
      limit $4::int
    ) of_one
    where (select count(*) from ready) > 1
    order by of_one.urgency, of_one.id
    limit $4::int
  ) most_urgent
  group by name, workflow, version
),
head as (
  select locked.*
  from ready
  left join part using (name, workflow, version)
  cross join lateral (
    select of_one.*
    from (${MOST_URGENT}
    ) of_one
    join @schema.run r on r.id = of_one.id and ${IS_READY('r')}
    order by of_one.urgency, of_one.id
    limit greatest(part.runs, ceil($4::float8 / (select count(*) from ready)))::int
    for no key update of r skip locked
  ) locked
)`;

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
 * Takes claimable runs for a worker: the most urgent of all its queues and definitions. Queues that are paused or have limits
 * are left out: see claimGated.
 *
 * A worker whose lease has expired takes nothing: it does not know it yet, and nobody would return what it took.
 * Takes: worker id, queues, definitions, limit. Locks the runs it takes; skips those that others are taking.
 * Returns: what executing them needs.
 */
const claimRuns = `
with ${aliveWorker('$1', 'true')},
queue as (
  select name
  from unnest((select $2::text[])) as served(name)
  where exists (select from alive)
    and name not in (${GATED_QUEUES})
),${LOCKING_HEAD},
candidate as (
  select id, fresh, ready_at
  from (select * from head order by urgency, id limit ${LOOKED_AT}) most_urgent
  limit $4::int
)
${CLAIMING('$1')}`;

/** What executing a run would need, without claiming it. Takes: run id. Locks nothing. */
const loadRun = `
select ${RUN_FACTS}, r.started_at is null as fresh, null as ready_at, r.status
from @schema.run r
where r.id = $1::uuid`;

/** No history has more: `seq` is an integer. */
const MOST_ENTRIES = 2 ** 31 - 1;

/**
 * The recorded outcomes of runs, of each in their order. Takes: run ids. Locks nothing. Returns the position of the run among these with
 * them, and null for what is usual: node needs as long for each field of ten thousand rows as for a tenth of what replays them.
 *
 * Written as "the first so many in the order of the index", which is walked then: rows are on their way to node while the next
 * are read. To sort them, as the planner would, takes until the last is read.
 */
const loadOutcomes = `
select nullif(wanted.position, 1)::int as position, h.seq,
  nullif(h.kind, '${USUAL_OUTCOME.kind}') as kind, nullif(h.scope, '${USUAL_OUTCOME.scope}') as scope, h.name, h.ordinal,
  nullif(h.status, '${USUAL_OUTCOME.status}') as status, h.digest,
  ${outputOf('h')} as output,
  h.error, nullif(h.attempts, ${USUAL_OUTCOME.attempts}) as attempts, nullif(h.after_seq, h.seq - 1) as after_seq, h.child_id,
  extract(epoch from h.started_at)::float8 * 1000 as started_at,
  extract(epoch from h.finished_at)::float8 * 1000 as finished_at
from unnest($1::uuid[]) with ordinality as wanted(run_id, position)
cross join lateral (
  select *
  from @schema.history one
  where one.run_id = wanted.run_id
  order by one.run_id, one.seq
  limit (select ${MOST_ENTRIES})
) h`;

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
