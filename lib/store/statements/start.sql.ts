import {
  aliveWorker,
  BEGAN_AT_ONCE,
  BEGINS,
  CHILDREN,
  headOfQueues,
  insertChildren,
  OF_NEW_RUN,
  USUAL_NEW_RUN,
} from './new-runs.sql.js';
import { RowSet } from './row-set.js';
import { GATED_QUEUES } from './statement.js';

export const NEW_RUNS = new RowSet(
  {
    ...OF_NEW_RUN,
    key: 'text',
    delay_ms: 'float8',
    start_at: 'float8',
    eager: 'bool',
  },
  { usual: { ...USUAL_NEW_RUN, eager: true } },
);

/** Runs that begin with their start. `waiting_for`: of one whose opening is committed with it. */
export const BEGUN_RUNS = new RowSet({ ...OF_NEW_RUN, waiting_for: 'text' }, { usual: USUAL_NEW_RUN });

const after = NEW_RUNS.width + 1;
const [workerId, definitions, lockTimeout] = [`$${after}`, `$${after + 1}`, `$${after + 2}`];

/** The time of this statement, not that at which the transaction began: that may be one of the caller's, and old. */
const MOMENT = '@schema.engine_now() + (clock_timestamp() - now())';

const STARTED = `id, status, extract(epoch from deadline)::float8 * 1000 as deadline, extract(epoch from created_at)::float8 * 1000 as at`;

/**
 * Inserts runs that have no parent. A key that is taken inserts nothing, and so does a repetition after a lost reply. One
 * that an open transaction has inserted is waited for, in the order of keys everywhere, and for as long as `patience` says.
 * Takes: NEW_RUNS, worker id, definitions, lock timeout in ms (or null). Locks nothing but what it inserts.
 * Returns: id, status, deadline and time of each run that was inserted.
 */
const insertRuns = `
with request as (
  select r.*, moment.now, coalesce(to_timestamp(start_at / 1000), moment.now + make_interval(secs => coalesce(delay_ms, 0) / 1000)) as due_at
  from ${NEW_RUNS.unnest('r', 1)}
  cross join (select ${MOMENT} as now) moment
),${headOfQueues('request where eager', definitions)},${aliveWorker(workerId, 'exists (select from request where eager)')},
placed as (
  select r.*, ${BEGINS('r')} as begins
  from request r
  left join head on head.queue = r.queue
),
patience as materialized (
  select set_config('lock_timeout', coalesce(${lockTimeout}::text, current_setting('lock_timeout')), true)
)
insert into @schema.run (
  id, workflow, version, key, status, queue, priority, tenant, label, attributes, input, input_digest, context, trace,
  root_id, depth, gated, epoch, worker_id, ready_at, wake_at, deadline, created_at, started_at
)
select
  id, workflow, version, key, case when begins then 'running' else 'pending' end,
  queue, priority, tenant, label, attributes::jsonb, input, input_digest, context, trace,
  id, 1,
  queue in (${GATED_QUEUES}),
  begins::int,
  case when begins then ${workerId}::uuid end,
  case when not begins and due_at <= now then now end,
  case when due_at > now then due_at end,
  greatest(due_at, now) + make_interval(secs => timeout_ms / 1000),
  now,
  case when begins then now end
from placed
cross join patience
order by workflow, key, id
on conflict do nothing
returning ${STARTED}`;

const afterBegun = BEGUN_RUNS.width + 1;
const [beginner, itsDefinitions, childrenAt] = [`$${afterBegun}`, `$${afterBegun + 1}`, afterBegun + 2];

/** The parts for the children that openings have started. */
interface OpenedChildren {
  asked: string;
  /** On whose queues nothing may be before them. */
  newRuns: string;
  made: string;
  rows: string;
}

const NO_CHILDREN: OpenedChildren = { asked: '', newRuns: 'request', made: '', rows: 'table inserted' };

const CHILDREN_OF_OPENINGS: OpenedChildren = {
  asked: `
new_child as (
  select * from ${CHILDREN.unnest('c', childrenAt)}
),`,
  newRuns: '(select queue from request union all select queue from new_child where eager) new_run',
  made: `
placed_child as (
  select c.*, c.eager as begins, moment.now
  from new_child c
  cross join moment
  where c.parent_id in (select id from inserted)
),
child as (${insertChildren(beginner, '')}
),`,
  rows: 'table inserted union all table child',
};

/**
 * Inserts runs that have no parent and no key, when each of them can begin at once in the process that starts it: all of them, or
 * none. One that has an opening is inserted as waiting, with the children that it has started. PostgreSQL prepares each part of
 * a statement at each execution, and this one has few; {@link insertRuns} decides in all other cases, in the same way. Not to be repeated: it
 * does not look whether the runs are there already.
 * Takes: BEGUN_RUNS, worker id, definitions, with openings also CHILDREN. Locks nothing but what it inserts.
 * Returns: as insertRuns, of the children as well; nothing when it has inserted none.
 */
const beginRuns = ({ asked, newRuns, made, rows }: OpenedChildren) => `
with request as (
  select * from ${BEGUN_RUNS.unnest('r', 1)}
),${asked}${headOfQueues(newRuns, itsDefinitions)},${aliveWorker(beginner, 'true')},
moment as materialized (
  select ${MOMENT} as now
  where exists (select from alive)
    and not exists (select from head where gated or urgency is not null)
),
inserted as (
  insert into @schema.run (
    id, workflow, version, status, queue, priority, tenant, label, attributes, input, input_digest, context, trace,
    root_id, depth, epoch, worker_id, waiting_for, deadline, created_at, started_at
  )
  select
    id, workflow, version, case when waiting_for is null then 'running' else 'waiting' end,
    queue, priority, tenant, label, attributes::jsonb, input, input_digest, context, trace,
    id, 1, 1, ${beginner}::uuid, waiting_for,
    now + make_interval(secs => timeout_ms / 1000),
    now, now
  from moment
  cross join request
  returning id, status, deadline, created_at
),${made}
made as (${rows})
select ${STARTED}
from made`;

/**
 * The runs that hold these ids or keys. Takes: ids, workflows, keys, side by side. Locks nothing.
 * Returns: the position asked for, and id, status, whether it still waits for its starter to begin it, input digest, deadline, time of the start.
 */
const findStarted = `
select wanted.position::int, r.id, r.status, ${BEGAN_AT_ONCE('r')} as begins, r.input_digest,
  extract(epoch from r.deadline)::float8 * 1000 as deadline,
  extract(epoch from r.created_at)::float8 * 1000 as at
from unnest($1::uuid[], $2::text[], $3::text[]) with ordinality as wanted(id, workflow, key, position)
cross join lateral (
  select * from @schema.run held where held.id = wanted.id
  union
  select * from @schema.run held where held.workflow = wanted.workflow and held.key = wanted.key and not held.superseded
) r`;

/** The run that has a key. Takes: workflow, key. Locks it. */
const lockHolder = `
select r.id, r.started_at is null and r.finished_at is null and r.cancel_requested_at is null as has_not_begun
from @schema.run r
where r.workflow = $1::text
  and r.key = $2::text
  and not r.superseded
for no key update`;

/** The key becomes free. Takes: id of a run that this transaction has locked. */
const releaseKey = `
update @schema.run
set superseded = true
where id = $1::uuid`;

/**
 * Delays a run that has not begun anew, with another input. Takes: its id, delay in ms, timeout in ms, input, input digest, context, label,
 * attributes, trace. Locked by this transaction already.
 */
const delayAnew = `
update @schema.run r
set input = $4::text,
  input_digest = $5::text,
  context = $6::text,
  label = $7::text,
  attributes = $8::jsonb,
  trace = $9::text,
  ready_at = null,
  wake_at = @schema.engine_now() + make_interval(secs => $2::float8 / 1000),
  deadline = @schema.engine_now() + make_interval(secs => ($2::float8 + $3::float8) / 1000)
where r.id = $1::uuid
returning r.id, r.status, r.input_digest, extract(epoch from r.deadline)::float8 * 1000 as deadline,
  extract(epoch from @schema.engine_now())::float8 * 1000 as at`;

/** Starts of one tenant are counted one after the other. Takes: what tells engines of one database apart, tenants. Locks those. */
const lockTenants = `
select pg_advisory_xact_lock(hashtextextended($1::text || name, 0))
from (select distinct name from unnest($2::text[]) as t(name) order by name) tenant`;

/**
 * How many runs of each tenant were created in the last so many ms, children as well, and when the earliest of them was. No more
 * than the limit are counted. Takes: tenants, ms, limit, the least id that such a run can have.
 */
const countStarts = `
select tenant.name as tenant, recent.starts, extract(epoch from recent.earliest)::float8 * 1000 as earliest
from unnest((select $1::text[])) as tenant(name)
cross join lateral (
  select count(*)::int as starts, min(newest.created_at) as earliest
  from (
    select r.created_at
    from @schema.run r
    where r.tenant = tenant.name
      and r.id >= $4::uuid
      and r.created_at > @schema.engine_now() - make_interval(secs => $2::float8 / 1000)
    order by r.id desc
    limit $3::int
  ) newest
) recent`;

/** For a start in somebody else's transaction: its isolation level, and whether it is on a database that has our tables. */
const describeTransaction = `
select current_setting('transaction_isolation') as level, to_regclass('@schema.run') is not null as ours`;

export const startStatements = {
  insertRuns,
  beginRuns: beginRuns(NO_CHILDREN),
  beginOpenedRuns: beginRuns(CHILDREN_OF_OPENINGS),
  findStarted,
  lockHolder,
  releaseKey,
  delayAnew,
  lockTenants,
  countStarts,
  describeTransaction,
};
