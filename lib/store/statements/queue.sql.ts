import { CLAIMING, HEAD, IS_NOBODY_ELSES, LOCKING_HEAD } from './claim.sql.js';
import { aliveWorker } from './new-runs.sql.js';
import { IS_READY, isGated, isOneOf, limitsOf, urgency } from './statement.js';

/** How many tenants one claim of a queue with a limit for each tenant looks at; the next one goes on after them. */
const TENANTS_AT_A_TIME = 200;

/** What the configuration of an app says. Takes: names and limits, side by side. Locks those queues. */
const configureQueues = `
insert into @schema.queue as q (name, configured)
select name, limits::jsonb
from unnest((select $1::text[]), $2::text[]) as c(name, limits)
where limits <> '{}' or exists (select from @schema.queue known where known.name = c.name)
order by name
on conflict (name) do update set configured = excluded.configured
where q.configured <> excluded.configured
returning name`;

/** Takes: name, paused. Locks the queue. */
const pauseQueue = `
insert into @schema.queue (name, paused)
values ($1::text, $2::bool)
on conflict (name) do update set paused = excluded.paused`;

/** Takes: name, limits or null. Locks the queue. */
const overrideQueue = `
insert into @schema.queue (name, override)
values ($1::text, $2::jsonb)
on conflict (name) do update set override = excluded.override`;

/**
 * What there was on a queue before it got limits belongs to them from now on, and so does what was just being inserted then.
 * Takes: name, limit. Locks those runs. Returns: their ids.
 */
const gateRuns = `
with claimable as (
  select r.id
  from @schema.run r
  where r.queue = $1::text
    and ${IS_READY('r')}
    and not r.gated
  order by r.workflow, r.version, ${urgency('r')}, r.id
  limit $2::int
),
running as (
  select r.id
  from @schema.run r
  where r.worker_id is not null
    and r.status = 'running'
    and r.queue = $1::text
    and not r.gated
  order by r.workflow, r.version, ${urgency('r')}, r.id
  limit $2::int
),
stray as (
  select r.id
  from @schema.run r
  where r.id = any(array(select id from claimable union all select id from running))
  order by r.id
  limit $2::int
  for no key update
)
update @schema.run r
set gated = true
from stray
where r.id = stray.id
returning r.id`;

/**
 * The gate of a queue, for a claim: claims of one queue come one after the other, so that each sees what the one before
 * has taken. Takes: name. Locks the queue. Returns nothing for a queue without limits.
 */
const lockGate = `
select q.paused, ${limitsOf('q')} as limits, q.after_tenant
from @schema.queue q
where q.name = $1::text
  and ${isGated('q')}
for no key update`;

/**
 * What runs of a queue, how many have begun in the stretch of its rate limit, and when that allows more.
 * Takes: queue, the stretch in ms. A statement of its own: it must see what was committed while the gate was waited for.
 */
const countGated = `
select
  (select count(*)::int from @schema.run r where r.queue = $1::text and r.gated and r.status = 'running') as running,
  coalesce(sum(c.runs), 0)::int as begun,
  extract(epoch from min(c.claimed_at))::float8 * 1000 + $2::float8 as more_at
from @schema.queue_claim c
where c.queue = $1::text
  and c.claimed_at > @schema.engine_now() - make_interval(secs => $2::float8 / 1000)`;

/** Whether a worker may claim the run of that alias. */
const MAY_CLAIM = `${IS_READY('r')}
      and ${IS_NOBODY_ELSES('r', '$1')}
      and ${isOneOf('r', '$3')}`;

/**
 * Takes claimable runs of a queue whose gate this transaction has locked. Those that have begun before are looked for beside the rest,
 * for they may stand behind many that have not, and no rate limit holds them up. Takes: worker id, queue, definitions, how many in
 * all, how many that have not begun. Locks them, skips those that are being written. Returns: as claimRuns.
 */
const claimGated = `
with ${aliveWorker('$1', 'true')},
begun as (
  select ${HEAD}
  from @schema.run r
  where r.queue = $2::text
    and r.gated
    and r.started_at is not null
    and ${MAY_CLAIM}
  order by ${urgency('r')}, r.id
  limit $4::int
  for no key update skip locked
),
queue as (
  select $2::text as name
  where exists (select from alive)
),${LOCKING_HEAD},
counted as (
  select *, count(*) filter (where fresh) over (order by urgency, id) as fresh_so_far
  from (
    select * from begun
    union
    select * from head
  ) either
),
candidate as (
  select id, fresh, ready_at
  from counted
  where (not fresh or fresh_so_far <= $5::int)
    and exists (select from alive)
  order by urgency, id
  limit $4::int
)
${CLAIMING('$1', ', gated = true')}`;

/**
 * The same of a queue with a limit for each tenant. The slots go round: first to the tenants with the fewest running, of each
 * the most urgent. Tenants are found by jumps through the index, a number of them at a time, and the next claim goes on after
 * the last, so that a tenant with a long backlog hides nobody.
 * Takes beside: how many of one tenant may run, the tenant after which to look. Returns beside: nothing.
 */
const claimFairly = `
with recursive ${aliveWorker('$1', 'true')},
tenant(name, position) as (
  (
    select r.tenant, 1
    from @schema.run r
    where r.queue = $2::text and r.gated and ${IS_READY('r')} and r.tenant > $7::text
    order by r.tenant
    limit 1
  )
  union all
  select (
    select r.tenant
    from @schema.run r
    where r.queue = $2::text and r.gated and ${IS_READY('r')} and r.tenant > tenant.name
    order by r.tenant
    limit 1
  ), tenant.position + 1
  from tenant
  where tenant.name is not null
    and tenant.position < ${TENANTS_AT_A_TIME}
),
of_tenants as (
  select head.id, head.fresh, head.ready_at, head.urgency,
    slots.running + row_number() over (partition by tenant.name order by head.urgency, head.id) as turn
  from tenant
  cross join lateral (
    select count(*) as running
    from @schema.run r
    where r.queue = $2::text and r.tenant = tenant.name and r.gated and r.status = 'running'
  ) slots
  cross join lateral (
    select ${HEAD}
    from @schema.run r
    where r.queue = $2::text
      and r.gated
      and r.tenant = tenant.name
      and ${MAY_CLAIM}
    order by ${urgency('r')}, r.id
    limit greatest(0, least($4::int, $6::int - slots.running::int))
    for no key update skip locked
  ) head
  where tenant.name is not null
),
of_nobody as (
  select ${HEAD}
  from @schema.run r
  where r.queue = $2::text
    and r.gated
    and r.tenant is null
    and ${MAY_CLAIM}
  order by ${urgency('r')}, r.id
  limit $4::int
  for no key update skip locked
),
head as (
  select id, fresh, ready_at, urgency, turn from of_tenants
  union all
  select id, fresh, ready_at, urgency, row_number() over (order by urgency, id) from of_nobody
),
counted as (
  select *, count(*) filter (where fresh) over (order by turn, urgency, id) as fresh_so_far
  from head
),
candidate as (
  select id, fresh, ready_at
  from counted
  where (not fresh or fresh_so_far <= $5::int)
    and exists (select from alive)
  order by turn, urgency, id
  limit $4::int
),
turned as (
  update @schema.queue
  set after_tenant = coalesce((select name from tenant where position = ${TENANTS_AT_A_TIME}), '')
  where name = $2::text
)
${CLAIMING('$1', ', gated = true')}`;

/** Counts runs that have begun under a rate limit, and forgets what is past. Takes: queue, their number, the stretch in ms. */
const recordBegun = `
with past as (
  delete from @schema.queue_claim
  where queue = $1::text
    and claimed_at <= @schema.engine_now() - make_interval(secs => $3::float8 / 1000)
)
insert into @schema.queue_claim as c (queue, claimed_at, runs)
values ($1::text, @schema.engine_now(), $2::int)
on conflict (queue, claimed_at) do update set runs = c.runs + excluded.runs`;

/** For people. At a cost that does not grow with the runs that have ended. */
const listQueues = `
with pending as (
  select queue, count(*)::int as runs, min(ready_at) as oldest
  from @schema.run
  where status = 'pending'
  group by queue
),
running as (
  select queue, count(*)::int as runs
  from @schema.run
  where worker_id is not null
    and status = 'running'
  group by queue
),
parked as (
  select distinct queue
  from @schema.run
  where status = 'waiting'
)
select name, coalesce(q.paused, false) as paused, coalesce(q.override, q.configured, '{}') as limits,
  coalesce(pending.runs, 0) as pending,
  coalesce(running.runs, 0) as running,
  extract(epoch from pending.oldest)::float8 * 1000 as oldest_due_at
from (
  select gate.name from @schema.queue gate where ${isGated('gate')}
  union select queue from pending
  union select queue from running
  union select queue from parked
) known(name)
left join @schema.queue q using (name)
left join pending on pending.queue = name
left join running on running.queue = name
order by name`;

export const queueStatements = {
  configureQueues,
  pauseQueue,
  overrideQueue,
  gateRuns,
  lockGate,
  countGated,
  claimGated,
  claimFairly,
  recordBegun,
  listQueues,
};
