import { RowSet } from './row-set.js';
import { BEGINS, headOfQueues } from './start.sql.js';

export const WRITES = new RowSet({
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
  has_state: 'bool',
  state: 'text',
  attributes: 'text',
});

export const OUTCOMES = new RowSet({
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
});

export const CHILDREN = new RowSet({
  id: 'uuid',
  workflow: 'text',
  version: 'int',
  queue: 'text',
  priority: 'int',
  tenant: 'text',
  label: 'text',
  attributes: 'text',
  input: 'text',
  input_digest: 'text',
  deadline: 'float8',
  timeout_ms: 'float8',
  parent_id: 'uuid',
  root_id: 'uuid',
  depth: 'int',
  ref: 'text',
  scope: 'text',
  awaited: 'bool',
  cascades: 'bool',
  closes_with_parent: 'bool',
  shielded: 'bool',
  eager: 'bool',
});

const outcomesAt = 1 + WRITES.width;
const childrenAt = outcomesAt + OUTCOMES.width;
const childIds = `$${childrenAt}`;
const after = childrenAt + CHILDREN.width;
const [lockIds, workerId, definitions, residents] = [`$${after}`, `$${after + 1}`, `$${after + 2}`, `$${after + 3}`];

/**
 * Group commit: the writes of many runs as one statement.
 *
 * locked: every run that is written or that the end of one may wake, in the order of ids everywhere, so that commits do
 *   not deadlock with each other; and their latest versions, which a plain read under READ COMMITTED does not give.
 * owned: the writes under a current epoch. `applied`: this very write was committed before and its reply was lost.
 *   `interrupted`: the run is being cancelled and does not know it yet; its outcomes are kept, but it cannot end, park or
 *   start children (save in a shield).
 * wake: whom the ends of runs wake. The row is touched whatever its status, so that no wake-up is lost to a park.
 * change: a run may be written and woken in one statement, and PostgreSQL updates a row once at most; so both are joined.
 *
 * Takes: WRITES, OUTCOMES, CHILDREN, ids to lock, worker id, definitions, resident runs (see Placement).
 * Returns a row for each owned write ('own'), each woken run ('woken') and each child that is there ('child').
 */
const commitWrites = `
with write as (
  select * from ${WRITES.unnest('w', 1)}
),
locked as (
  select r.id, r.epoch, r.write_no, r.status, r.wakes, r.queue, r.worker_id,
    r.cancel_requested_at, r.cancel_reason, r.parent_id, r.awaited, r.watched
  from @schema.run r
  where r.id = any(${lockIds}::uuid[])
  order by r.id
  for no key update
),
owned as (
  select w.*, l.status, l.wakes, l.watched, l.cancel_requested_at, l.cancel_reason,
    case when l.awaited then l.parent_id end as waiting_parent,
    l.write_no = w.write_no as applied,
    l.cancel_requested_at is not null and not w.knows_cancel as interrupted
  from write w
  join locked l on l.id = w.id
  where l.epoch = w.epoch
    and (l.status = 'running' or l.write_no = w.write_no)
),
recorded as (
  insert into @schema.history (
    run_id, seq, kind, scope, name, ordinal, status, digest, output, error, attempts, after_seq, started_at, finished_at, child_id
  )
  select h.run_id, h.seq, h.kind, h.scope, h.name, h.ordinal, h.status, h.digest, h.output, h.error, h.attempts, h.after_seq,
    to_timestamp(h.started_at / 1000), to_timestamp(h.finished_at / 1000), h.child_id
  from ${OUTCOMES.unnest('h', outcomesAt)}
  join owned on owned.id = h.run_id
  on conflict (run_id, seq) do nothing
),
new_child as (
  select * from ${CHILDREN.unnest('c', childrenAt)}
),${headOfQueues('new_child', definitions)},
placed as (
  select c.*, ${BEGINS('c')} as begins, @schema.engine_now() as now
  from new_child c
  join owned on owned.id = c.parent_id
  left join head on head.queue = c.queue
  where not owned.interrupted or c.shielded
),
child as (
  insert into @schema.run (
    id, workflow, version, status, queue, priority, tenant, label, attributes, input, input_digest, deadline,
    parent_id, root_id, depth, ref, scope, awaited, cascades, closes_with_parent,
    epoch, worker_id, ready_at, created_at, started_at
  )
  select id, workflow, version, case when begins then 'running' else 'pending' end,
    queue, priority, tenant, label, attributes::jsonb, input, input_digest,
    least(to_timestamp(deadline / 1000), now + make_interval(secs => timeout_ms / 1000)),
    parent_id, root_id, depth, ref, scope, awaited, cascades, closes_with_parent,
    begins::int,
    case when begins then ${workerId}::uuid end,
    case when not begins then now end,
    now,
    case when begins then now end
  from placed
  on conflict do nothing
  returning id, status, deadline
),
ended as (
  select * from owned
  where move in ('completed', 'failed', 'cancelled')
    and not interrupted
    and not applied
),
wake as (
  select waiting_parent as id from ended where waiting_parent is not null
  union
  select w.watcher_id from ended join @schema.watch w on w.run_id = ended.id where ended.watched
),
moving as (
  select * from owned
  where not applied
    and (move is not null or has_state or attributes is not null)
),
change as (
  select l.id, m.write_no, m.output, m.error, m.wake_at, m.waiting_for, m.has_state, m.state, m.attributes,
    wake.id is not null as woken,
    case
      when m.move in ('completed', 'failed', 'cancelled', 'blocked') and not m.interrupted then m.move
      when m.move = 'waiting' and not m.interrupted and wake.id is null and l.wakes = m.seen_wakes then 'waiting'
      when m.id is null and l.status = 'waiting' then case when l.id = any(${residents}::uuid[]) and l.worker_id = ${workerId}::uuid then 'running' else 'pending' end
    end as status
  from locked l
  left join moving m on m.id = l.id
  left join wake on wake.id = l.id
  where m.id is not null or wake.id is not null
),
changed as (
  update @schema.run r
  set status = coalesce(c.status, r.status),
    ready_at = case when c.status = 'pending' then @schema.engine_now() else r.ready_at end,
    wake_at = case when c.status = 'waiting' then to_timestamp(c.wake_at / 1000) when c.status is null then r.wake_at end,
    waiting_for = case when c.status = 'waiting' then c.waiting_for when c.status is null then r.waiting_for end,
    wakes = r.wakes + c.woken::int,
    write_no = coalesce(c.write_no, r.write_no),
    output = case when c.status = 'completed' then c.output else r.output end,
    error = case when c.status in ('failed', 'cancelled', 'blocked') then c.error else r.error end,
    state = case when c.has_state then c.state else r.state end,
    attributes = case when c.attributes is null then r.attributes else coalesce(r.attributes, '{}') || c.attributes::jsonb end,
    worker_id = case when c.status in ('completed', 'failed', 'cancelled', 'blocked') then null else r.worker_id end,
    finished_at = case when c.status in ('completed', 'failed', 'cancelled') then @schema.engine_now() else r.finished_at end
  from change c
  where r.id = c.id
  returning r.id, r.status, r.epoch, r.wakes, r.queue, r.worker_id, c.woken
),
watcher as (
  update @schema.run r
  set wakes = r.wakes + 1,
    status = case when r.status = 'waiting' then 'pending' else r.status end,
    ready_at = case when r.status = 'waiting' then @schema.engine_now() else r.ready_at end,
    wake_at = case when r.status = 'waiting' then null else r.wake_at end
  from wake
  where r.id = wake.id
    and r.id <> all(${lockIds}::uuid[])
  returning r.id, r.status, r.epoch, r.wakes, r.queue, r.worker_id
)
select 'own' as tag, o.id, coalesce(changed.status, o.status) as status, coalesce(changed.wakes, o.wakes) as wakes,
  o.epoch, null as queue, null::uuid as worker_id, o.watched,
  extract(epoch from o.cancel_requested_at)::float8 * 1000 as cancel_requested_at, o.cancel_reason,
  null::float8 as deadline,
  extract(epoch from @schema.engine_now())::float8 * 1000 as at
from owned o
left join changed on changed.id = o.id
union all
select 'woken', id, status, wakes, epoch, queue, worker_id, null, null, null, null, null
from changed
where woken
union all
select 'woken', id, status, wakes, epoch, queue, worker_id, null, null, null, null, null
from watcher
union all
select 'child', id, status, null, null, null, null, null, null, null, extract(epoch from deadline)::float8 * 1000, null
from child
union all
select 'child', r.id, r.status, null, null, null, null, null, null, null, extract(epoch from r.deadline)::float8 * 1000, null
from @schema.run r
where r.id = any(${childIds}::uuid[])`;

/** Own children whose end shall wake their parent from now on. Takes: parent id, child ids. Locks the children. */
const awaitChildren = `
update @schema.run
set awaited = true
where id = any($2::uuid[])
  and parent_id = $1::uuid`;

/** Other runs whose end shall wake a run from now on. Takes: the waiting run, the others. Locks the others. */
const watchRuns = `
with wanted as (
  update @schema.run
  set watched = true
  where id = any($2::uuid[])
  returning id
)
insert into @schema.watch (run_id, watcher_id)
select id, $1::uuid
from wanted
on conflict do nothing`;

/** Frees the refs of ended children for new ones. Takes: run ids. Locks them. */
const supersedeRuns = `
update @schema.run
set superseded = true
where id = any($1::uuid[])
  and finished_at is not null`;

/** The active children that end with their parent. Takes: the parent's id. Locks nothing: the cancellation does. */
const closingChildren = `
select id
from @schema.run
where parent_id = $1::uuid
  and closes_with_parent
  and finished_at is null`;

export const commitStatements = { commitWrites, awaitChildren, watchRuns, supersedeRuns, closingChildren };
