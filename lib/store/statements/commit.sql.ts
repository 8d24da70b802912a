import { aliveWorker, BEGAN_AT_ONCE, BEGINS, CHILDREN, headOfQueues, insertChildren } from './new-runs.sql.js';
import { RowSet } from './row-set.js';
import { GATED_QUEUES } from './statement.js';

/** The writes, and with `epoch` null the runs that the end of one may wake. */
export const WRITES = new RowSet(
  {
    id: 'uuid',
    epoch: 'int',
    write_no: 'int',
    move: 'text',
    output: 'text',
    error: 'text',
    wake_at: 'float8',
    waiting_for: 'text',
    seen_wakes: 'int',
    knows_cancel: 'bool',
    told_parent: 'bool',
    has_state: 'bool',
    state: 'text',
    attributes: 'text',
  },
  { kept: ['output', 'error', 'waiting_for'], usual: { knows_cancel: false, told_parent: false, has_state: false } },
);

/** Writes that leave their runs' rows as they are, in the order of ids. */
export const RECORDERS = new RowSet({ id: 'uuid', epoch: 'int', seen_wakes: 'int' });

/** Writes that end their runs; and with the status 'running' writes that only record outcomes. In the order of ids. */
export const ENDS = new RowSet(
  { id: 'uuid', epoch: 'int', write_no: 'int', status: 'text', seen_wakes: 'int', output: 'text', error: 'text' },
  { usual: { status: 'completed' } },
);

/**
 * The same, with ends that parents are waiting for (`awaited`), and these parents: they have been told of such an end, and write
 * upon it; or they are `woken`, and with `epoch` null they write nothing themselves. `resident`: their code is here.
 */
export const ENDS_AND_PARENTS = new RowSet(
  {
    id: 'uuid',
    epoch: 'int',
    write_no: 'int',
    status: 'text',
    seen_wakes: 'int',
    output: 'text',
    error: 'text',
    awaited: 'bool',
    resident: 'bool',
    woken: 'bool',
  },
  { usual: { status: 'completed', awaited: true, resident: false, woken: false } },
);

/** What most outcomes are: those of steps that the workflow's own code calls, and that succeed at once. */
export const USUAL_OUTCOME = { kind: 'step', scope: '', ordinal: 1, status: 'completed', attempts: 1 } as const;

export const OUTCOMES = new RowSet(
  {
    run_id: 'uuid',
    seq: 'int',
    kind: 'text',
    scope: 'text',
    name: 'text',
    ordinal: 'int',
    status: 'text',
    digest: 'text',
    output: 'text',
    error: 'text',
    attempts: 'int',
    after_seq: 'int',
    started_at: 'float8',
    finished_at: 'float8',
    child_id: 'uuid',
    logs: 'text',
    output_in_run: 'bool',
  },
  { usual: USUAL_OUTCOME },
);

const epochs = '$2';
const outcomesAt = 1 + WRITES.width;
const after = outcomesAt + OUTCOMES.width;
const [workerId, residents] = [`$${after}`, `$${after + 1}`];
const childrenAt = after + 2;
const childIds = `$${childrenAt}`;
const definitions = `$${childrenAt + CHILDREN.width}`;

/** What the writes say of a run that changes. */
const kept = (column: 'output' | 'error' | 'waiting_for') => WRITES.at(column, 'c.position::int', 1);

/**
 * The outcomes of the runs that are owned. A repetition, after a lost reply, finds them there. An output that is the run's is
 * with the run, unless that does not end as it should.
 */
const OF_OWNED = {
  which: 'join owned on owned.id = h.run_id',
  output: `case when h.output_in_run is null then h.output when owned.interrupted then ${WRITES.at('output', 'owned.position::int', 1)} end`,
  isInRun: 'case when h.output_in_run and not owned.interrupted then true end',
  onConflict: 'on conflict (run_id, seq) do nothing',
};

/**
 * The outcomes of all runs, when all are `plain`. Only for what is sent for the first time: then none can be there yet, and looking for
 * them would be a fifth of what it costs to insert them.
 */
const OF_ALL = { which: 'cross join plain', output: 'h.output', isInRun: 'h.output_in_run', onConflict: '' };

const recorded = (first: number, { which, output, isInRun, onConflict } = OF_OWNED) => `recorded as (
  insert into @schema.history (
    run_id, seq, kind, scope, name, ordinal, status, digest, output, error, attempts, after_seq, started_at, finished_at, child_id, logs,
    output_in_run
  )
  select h.run_id, h.seq, h.kind, h.scope, h.name, h.ordinal, h.status, h.digest, ${output}, h.error, h.attempts, h.after_seq,
    to_timestamp(h.started_at / 1000), to_timestamp(h.finished_at / 1000), h.child_id, h.logs, ${isInRun}
  from ${OUTCOMES.unnest('h', first)}
  ${which}
  ${onConflict}
)`;

/**
 * The group commit of writes that only record outcomes, as all do of a step that is not the last, when all of their runs are owned: all
 * of them, or none. Not to be repeated: see {@link OF_ALL}. Locks and owns as {@link groupCommit}, which decides in all other cases.
 * The runs are found by a list, and their columns compared as a whole: a join would cost a third of what the outcomes do.
 * Takes: RECORDERS in the order of ids, OUTCOMES. Returns: as that, 'all', and 'own' of those that are being cancelled, or of all when
 * some were woken; no row when it has done nothing.
 */
const commitOutcomes = `
with locked as materialized (
  select r.id, r.epoch, r.wakes, r.cancel_requested_at, r.cancel_reason
  from @schema.run r
  where r.id = any((select ${RECORDERS.array('id', 1)})::uuid[])
    and r.status = 'running'
  order by r.id
  for no key update of r
),
plain as materialized (
  select count(*)::int as writes, array_agg(wakes) = ${RECORDERS.array('seen_wakes', 1)} as as_seen
  from locked
  having array_agg(epoch) = ${RECORDERS.array('epoch', 1)}
),
${recorded(1 + RECORDERS.width, OF_ALL)}
select 'all' as tag, null::uuid as id, null as status, writes as wakes, null::bool as watched, null::float8 as cancel_requested_at,
  null as cancel_reason, extract(epoch from @schema.engine_now())::float8 * 1000 as at
from plain
union all
select 'own', id, 'running', wakes, false, extract(epoch from cancel_requested_at)::float8 * 1000, cancel_reason, null
from locked
cross join plain
where not as_seen
  or cancel_requested_at is not null`;

/** The locked runs with their positions, which are those of the writes if all of these were found. */
const IN_ORDER = '(select *, (row_number() over ())::int as position from locked) as r';

/** What of a write the run has to agree with, as its writer knows it. */
const isCurrent = (said: (column: 'epoch' | 'write_no') => string) =>
  `r.epoch = ${said('epoch')} and r.write_no < ${said('write_no')} and r.cancel_requested_at is null`;

/** What becomes of the row of a run that ends, or goes on after it was parked. */
const asEnded = (said: (column: 'write_no' | 'output' | 'error') => string) => `status = w.status,
    wake_at = null,
    waiting_for = null,
    write_no = coalesce(${said('write_no')}, r.write_no),
    output = ${said('output')},
    error = ${said('error')},
    worker_id = case when w.status = 'running' then r.worker_id end,
    finished_at = case when w.status <> 'running' then @schema.engine_now() end`;

/** What the write at that position says. */
const saidIn =
  <Column extends string>(rows: RowSet<Column>, position: string) =>
  (column: Column) =>
    rows.at(column, position, 1);
const end = saidIn(ENDS, 'r.position');

/**
 * The group commit of writes that end their runs, or end some and record outcomes of others, when nothing has happened to any of these
 * that concerns anybody else: all of them, or none. Most commits of short runs are like that, and PostgreSQL prepares each part of a
 * statement at each execution, used or not. Not to be repeated: see {@link OF_ALL}. Locks as {@link groupCommit}, which decides in all
 * other cases. The runs are found by a list, as in {@link commitOutcomes}, and so the n-th of them is that of the n-th write.
 * Takes: ENDS in the order of ids, OUTCOMES. Returns: as that, 'all'; no row when it has done nothing.
 */
const commitEnds = `
with locked as materialized (
  select r.id, r.epoch, r.write_no, r.wakes, r.cancel_requested_at, r.watched or r.awaited as concerns_others
  from @schema.run r
  where r.id = any((select ${ENDS.array('id', 1)})::uuid[])
    and r.status = 'running'
  order by r.id
  for no key update of r
),
written as materialized (
  select id, position, ${end('status')} as status
  from ${IN_ORDER}
  where r.id = ${end('id')}
    and ${isCurrent(end)}
    and r.wakes = coalesce(${end('seen_wakes')}, r.wakes)
    and (${end('status')} = 'running' or not concerns_others)
),
plain as materialized (
  select count(*)::int as writes
  from written
  having count(*) = cardinality($1::uuid[])
),
${recorded(1 + ENDS.width, OF_ALL)},
ended as (
  update @schema.run r
  set ${asEnded(saidIn(ENDS, 'w.position'))}
  from written w
  where r.id = w.id
    and w.status <> 'running'
    and exists (select from plain)
)
select 'all' as tag, writes as wakes, extract(epoch from @schema.engine_now())::float8 * 1000 as at
from plain`;

const endsWorker = `$${1 + ENDS_AND_PARENTS.width + OUTCOMES.width}`;
const endOrParent = saidIn(ENDS_AND_PARENTS, 'r.position');

/**
 * The same, of children whose parents are here, and go on, or are running anyway: see `may_resume` and `wake` of {@link groupCommit}. A
 * parent that would park here is woken before it does.
 * Takes: ENDS_AND_PARENTS in the order of ids, OUTCOMES, worker id. Returns: as the general one, 'all', 'own' and 'woken'; no row when it
 * has done nothing.
 */
const commitEndsWithParents = ({ wakes, returning, rows }: WokenParents) => `
with locked as materialized (
  select r.id, r.epoch, r.write_no, r.wakes, r.cancel_requested_at, r.queue, r.awaited, r.watched, r.status = 'waiting' as is_parked
  from @schema.run r
  where r.id = any((select ${ENDS_AND_PARENTS.array('id', 1)})::uuid[])
    and (r.status = 'running' or (r.status = 'waiting' and r.worker_id = ${endsWorker}::uuid and not r.paused))
  order by r.id
  for no key update of r
),
written as materialized (
  select id, position, queue, is_parked, ${endOrParent('epoch')} is not null as writes, ${endOrParent('status')} as status,
    ${endOrParent('woken')} as woken
  from ${IN_ORDER}
  where r.id = ${endOrParent('id')}
    and (${endOrParent('epoch')} is null or (${isCurrent(endOrParent)}))
    and (not is_parked or ${endOrParent('resident')})
    and r.wakes = coalesce(${endOrParent('seen_wakes')}, r.wakes)
    and (${endOrParent('status')} = 'running' or (r.awaited = ${endOrParent('awaited')} and not r.watched))
),${aliveWorker(endsWorker, 'true')},
plain as materialized (
  select count(*) filter (where writes)::int as writes
  from written
  having count(*) = cardinality($1::uuid[])
    and not exists (select from written where is_parked and (queue in (${GATED_QUEUES}) or not exists (select from alive)))
),
${recorded(1 + ENDS_AND_PARENTS.width, OF_ALL)},
changed as (
  update @schema.run r
  set ${asEnded(saidIn(ENDS_AND_PARENTS, 'w.position'))}${wakes}
  from written w
  where r.id = w.id
    and (w.status <> 'running' or w.is_parked or w.woken)
    and exists (select from plain)${returning}
)
select 'all' as tag, null::uuid as id, null as status, writes as wakes, null::int as epoch, null as queue, null::uuid as worker_id,
  null::bool as watched, null::float8 as cancel_requested_at, null as cancel_reason,
  extract(epoch from @schema.engine_now())::float8 * 1000 as at
from plain${rows}`;

/** The parts for parents that are woken: those that have been told of the ends are not, and PostgreSQL starts each part of a statement. */
interface WokenParents {
  wakes: string;
  returning: string;
  rows: string;
}

const NO_WOKEN_PARENTS: WokenParents = { wakes: '', returning: '', rows: '' };

const WOKEN_PARENTS: WokenParents = {
  wakes: `,
    wakes = r.wakes + w.woken::int`,
  returning: `
  returning r.id, r.epoch, r.wakes, r.queue, r.worker_id, w.woken, w.writes`,
  rows: `
union all
select 'own', id, 'running', wakes, null, null, null, false, null, null, null
from changed
where woken
  and writes
union all
select 'woken', id, 'running', wakes, epoch, queue, worker_id, null, null, null, null
from changed
where woken`,
};

/**
 * Group commit: the writes of many runs as one statement. Most make no children, and are spared the parts for those.
 *
 * locked: every run that is written or that the end of one may wake, in the order of ids everywhere, so that commits do
 *   not deadlock with each other; and their latest versions, which a plain read under READ COMMITTED does not give.
 * owned: the writes under a current epoch. `applied`: this write was committed before and its reply was lost, or it arrives a second
 *   time, long after, from a connection that had been given up.
 *   `interrupted`: the run is being cancelled and does not know it yet; its outcomes are kept, but it cannot end or park.
 *   Known or not, a run that is being cancelled starts no children, save in a shield: the cancellation would miss them.
 *   `may_resume`: a parked run whose code is in the memory of this worker, and which nothing else has woken or paused. A parent may have
 *   been told of its child's end before that is committed (`told_parent`), and write what it did upon it here. That is owned if
 *   this statement makes the end (`broken_off` are the parents of those that it does not make): the parent runs again, or moves on.
 * wake: whom the ends of runs wake, but no parent whose write here counts on the end. The row is touched whatever its status, so that
 *   no wake-up is lost to a park. Who watches a run may have begun to while this statement waited for that run's lock; plain
 *   reads and updates of this statement would not see it, so those are functions (see the migration).
 * change: a run may be written and woken in one statement, and PostgreSQL updates a row once at most; so both are joined.
 *   Materialized: merged into the update, each use of a column would be a copy of its expression, subqueries included.
 *
 * The sets are derived from each other by filters, with few joins: the planner takes each for a handful of rows, and its
 * nested loops over two sets of hundreds would take longer than all the rest.
 *
 * Takes: WRITES, OUTCOMES, CHILDREN, worker id, definitions, resident runs (see Placement).
 * Returns a row that counts the owned writes ('all'), one that counts the children that are there ('children'), one for each woken run
 * ('woken'), and one for each owned write of which there is something to say ('own': its run is being cancelled, or watched, or was
 * woken, or did not move as asked) and each child that begins at once ('begun'). Of the others their number says enough, so that the
 * reply to thousands is a few rows; only when some writes are not owned, or some children not there, are all that are listed ('child').
 */
const groupCommit = (children: NewChildren) => `
with locked as (
  select w.*, r.epoch as stored_epoch, r.write_no as stored_write_no, r.status, r.wakes, r.worker_id, r.queue, r.paused,
    r.cancel_requested_at, r.cancel_reason, r.watched,
    case when r.awaited then r.parent_id end as waiting_parent
  from ${WRITES.unnest('w', 1)}
  join @schema.run r on r.id = w.id
  order by r.id
  for no key update of r
),${children.asked}${aliveWorker(workerId, `(${children.needWorker}cardinality(${residents}::uuid[]) > 0)`)},
candidate as (
  select *,
    epoch is not null and epoch = stored_epoch as has_epoch,
    status = 'running' or stored_write_no = write_no as is_at_hand,
    status = 'waiting'
      and id = any(${residents}::uuid[])
      and worker_id in (select id from alive)
      and not paused
      and queue not in (${GATED_QUEUES}) as may_resume,
    coalesce(stored_write_no >= write_no, false) as applied,
    cancel_requested_at is not null and not knows_cancel as interrupted
  from locked
),
broken_off as (
  select waiting_parent as id
  from candidate
  where told_parent
    and waiting_parent is not null
    and not coalesce(has_epoch and is_at_hand and not interrupted, false)
),
judged as (
  select *,
    has_epoch and (is_at_hand or may_resume) and id not in (select id from broken_off) as is_owned,
    status = 'waiting' as is_parked
  from candidate
),
owned as (
  select * from judged where is_owned
),
${recorded(outcomesAt)},${children.made}
ended as (
  select * from owned
  where move in ('completed', 'failed', 'cancelled')
    and not interrupted
    and not applied
),
wake as (
  select waiting_parent as id
  from ended
  where waiting_parent is not null
    and not (told_parent and waiting_parent in (select id from owned))
  union
  select watcher.id from ended cross join lateral @schema.watchers_of(ended.id) as watcher(id) where ended.watched
),
change as materialized (
  select j.*, j.moves and j.has_state as sets_state, case when j.moves then j.attributes end as new_attributes,
    case
      when j.moves and j.move in ('completed', 'failed', 'cancelled', 'blocked') and not j.interrupted then j.move
      when j.moves and j.move = 'waiting' and not j.interrupted and not j.woken and j.wakes = j.seen_wakes then 'waiting'
      when j.moves and j.is_parked then 'running'
      when j.is_parked then case when j.may_resume and j.epoch is null then 'running' else 'pending' end
    end as next_status
  from (
    select *, is_owned and not applied and (is_parked or move is not null or has_state or attributes is not null) as moves,
      id in (select id from wake) as woken
    from judged
  ) j
  where j.moves or j.woken
),
changed as (
  update @schema.run r
  set status = coalesce(c.next_status, r.status),
    ready_at = case when c.next_status = 'pending' then @schema.engine_now() else r.ready_at end,
    wake_at = case when c.next_status = 'waiting' then to_timestamp(c.wake_at / 1000) when c.next_status is null then r.wake_at end,
    waiting_for = case when c.next_status = 'waiting' then ${kept('waiting_for')} when c.next_status is null then r.waiting_for end,
    wakes = r.wakes + c.woken::int,
    write_no = case when c.moves then c.write_no else r.write_no end,
    output = case when c.next_status = 'completed' then ${kept('output')} else r.output end,
    error = case when c.next_status in ('failed', 'cancelled', 'blocked') then ${kept('error')} else r.error end,
    state = case when c.sets_state then c.state else r.state end,
    attributes = case when c.new_attributes is null then r.attributes else coalesce(r.attributes, '{}') || c.new_attributes::jsonb end,
    worker_id = case when c.next_status in ('completed', 'failed', 'cancelled', 'blocked') then null else r.worker_id end,
    finished_at = case when c.next_status in ('completed', 'failed', 'cancelled') then @schema.engine_now() else r.finished_at end
  from change c
  where r.id = c.id
  returning r.id, r.status, r.epoch, r.wakes, r.queue, r.worker_id, c.woken
),
watcher as (
  select woken.*
  from (select id from wake where id <> all($1::uuid[]) order by id) other
  cross join lateral @schema.wake_run(other.id) woken
)${children.there}
select 'all' as tag, null::uuid as id, null as status, count(*)::int as wakes, null::int as epoch, null as queue, null::uuid as worker_id,
  null::bool as watched, null::float8 as cancel_requested_at, null as cancel_reason, null::float8 as deadline,
  extract(epoch from @schema.engine_now())::float8 * 1000 as at
from owned
union all
select 'own', o.id, coalesce(changed.status, o.status), coalesce(changed.wakes, o.wakes), o.epoch, null, null, o.watched,
  extract(epoch from o.cancel_requested_at)::float8 * 1000, o.cancel_reason, null, null
from owned o
left join changed on changed.id = o.id
where o.watched
  or o.cancel_requested_at is not null
  or coalesce(changed.wakes, o.wakes) <> o.seen_wakes
  or coalesce(changed.status, o.status) <> coalesce(o.move, 'running')
  or (select count(*) from owned) <> cardinality(array_remove(${epochs}::int[], null))
union all
select 'woken', id, status, wakes, epoch, queue, worker_id, null, null, null, null, null
from changed
where woken
union all
select 'woken', id, status, wakes, epoch, queue, worker_id, null, null, null, null, null
from watcher${children.rows}`;

/** The parts of the group commit for new children: PostgreSQL starts and ends each part of a statement, used or not. */
interface NewChildren {
  asked: string;
  /** The beginning of a condition. */
  needWorker: string;
  made: string;
  there: string;
  rows: string;
}

const NO_CHILDREN: NewChildren = { asked: '', needWorker: '', made: '', there: '', rows: '' };

const CHILDREN_OF_WRITES: NewChildren = {
  asked: `
new_child as (
  select * from ${CHILDREN.unnest('c', childrenAt)}
),${headOfQueues('new_child where eager', definitions)},`,
  needWorker: 'exists (select from new_child where eager) or ',
  made: `
placed_child as (
  select c.*, ${BEGINS('c')} as begins, @schema.engine_now() as now
  from new_child c
  join owned on owned.id = c.parent_id
  left join head on head.queue = c.queue
  where owned.cancel_requested_at is null or c.shielded
),
child as (${insertChildren(workerId)}
),`,
  there: `,
there as (
  select id, status = 'running' as begins, deadline
  from child
  union all
  select r.id, ${BEGAN_AT_ONCE('r')}, r.deadline
  from @schema.run r
  where r.id = any((select ${childIds}::uuid[])::uuid[])
)`,
  rows: `
union all
select 'children', null, null, count(*)::int, null, null, null, null, null, null, null, null
from there
union all
select case when begins then 'begun' else 'child' end, id, null, null, null, null, null, null, null, null,
  extract(epoch from deadline)::float8 * 1000, null
from there
where begins
  or (select count(*) from there) <> cardinality(${childIds}::uuid[])`,
};

/**
 * Own children whose end shall wake their parent from now on. Takes: parent id, child ids. Locks the children, in the order of ids.
 * Returns on which queue each is claimable: a claim skips what is locked here, so it has to be made again.
 */
const awaitChildren = `
with target as (
  select id
  from @schema.run
  where id = any($2::uuid[])
    and parent_id = $1::uuid
  order by id
  for no key update
)
update @schema.run r
set awaited = true
from target
where r.id = target.id
returning case when r.ready_at is not null then r.queue end as ready_on`;

/** Other runs whose end shall wake a run from now on. Takes: the waiting run, the others. Locks the others. Returns: as awaitChildren. */
const watchRuns = `
with target as (
  select id
  from @schema.run
  where id = any($2::uuid[])
  order by id
  for no key update
),
wanted as (
  update @schema.run r
  set watched = true
  from target
  where r.id = target.id
  returning r.id, case when r.ready_at is not null then r.queue end as ready_on
),
watched as (
  insert into @schema.watch (run_id, watcher_id)
  select id, $1::uuid
  from wanted
  on conflict do nothing
)
select ready_on
from wanted`;

/** Frees the refs of ended children for new ones. Takes: their ids, the parent's id and epoch. Locks the parent, then them. */
const supersedeRuns = `
with owner as (
  select id
  from @schema.run
  where id = $2::uuid
    and epoch = $3::int
  for no key update
)
update @schema.run r
set superseded = true
from owner
where r.id = any($1::uuid[])
  and r.parent_id = owner.id
  and r.finished_at is not null`;

/** How far the compensations of a run are. Takes: its id, the status. Its owner has locked it by a write. */
const markCompensation = `
update @schema.run
set compensation = $2::text
where id = $1::uuid`;

/** The active children that end with their parent. Takes: the parent's id. Locks nothing: the cancellation does. */
const closingChildren = `
select id
from @schema.run
where parent_id = $1::uuid
  and closes_with_parent
  and finished_at is null`;

export const commitStatements = {
  commitOutcomes,
  commitEnds,
  commitEndsWithParents: commitEndsWithParents(NO_WOKEN_PARENTS),
  commitEndsWakingParents: commitEndsWithParents(WOKEN_PARENTS),
  commitWrites: groupCommit(NO_CHILDREN),
  commitWithChildren: groupCommit(CHILDREN_OF_WRITES),
  awaitChildren,
  watchRuns,
  supersedeRuns,
  markCompensation,
  closingChildren,
};
