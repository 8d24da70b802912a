/** Of one process at a time, until its transaction ends. Takes: the name of the lock. */
const lockSweep = `
select pg_try_advisory_xact_lock(hashtextextended($1::text, 0)) as locked`;

/** The next workflow and status of which roots have ended. Takes: the ones before it, or nulls. Locks nothing. */
const nextEndedGroup = `
select r.workflow, r.status
from @schema.run r
where r.parent_id is null
  and r.finished_at is not null
  and (r.workflow, r.status) > (coalesce($1::text, ''), coalesce($2::text, ''))
order by r.workflow, r.status
limit 1`;

/**
 * Roots of a workflow that ended with a status and are past their time, in the order in which they ended. Takes: workflow,
 * status, how long those of that status are kept by default in ms (or null), where to go on (time and id, or null), limit.
 * Locks nothing.
 */
const findOldRoots = `
select r.id, r.finished_at::text
from @schema.run r
where r.parent_id is null
  and r.finished_at is not null
  and r.workflow = $1::text
  and r.status = $2::text
  and r.finished_at < @schema.engine_now() - make_interval(
    secs => coalesce((select own.kept_ms from @schema.retention own where own.workflow = $1::text), $3::float8) / 1000
  )
  and (r.finished_at, r.id) > (coalesce($4::timestamptz, '-infinity'), coalesce($5::uuid, '00000000-0000-0000-0000-000000000000'))
order by r.finished_at, r.id
limit $6::int`;

/**
 * Of these families those of which every member has ended and is past its time: that of its workflow, else the default of its
 * status. Where there is neither, a descendant is kept no longer than the rest. Takes: roots, the defaults in ms for
 * completed, failed and cancelled. Locks nothing. Returns: the root and how many they are.
 */
const expiredFamilies = `
with recursive family as (
  select id as root_id, id, workflow, status, finished_at
  from @schema.run
  where id = any($1::uuid[])
  union all
  select family.root_id, child.id, child.workflow, child.status, child.finished_at
  from @schema.run child
  join family on child.parent_id = family.id
)
select f.root_id as id, count(*)::int as members
from family f
left join @schema.retention own on own.workflow = f.workflow
cross join lateral (
  select coalesce(own.kept_ms, case f.status when 'completed' then $2::float8 when 'failed' then $3::float8 when 'cancelled' then $4::float8 end) as kept_ms
) policy
group by f.root_id
having bool_and(
  f.finished_at is not null
  and coalesce(f.finished_at + make_interval(secs => policy.kept_ms / 1000) < @schema.engine_now(), f.id <> f.root_id)
)`;

/** Ended children without children of their own. Takes: parent, limit. Locks them. */
const lockLeaves = `
select c.id
from @schema.run c
where c.parent_id = $1::uuid
  and c.finished_at is not null
  and not exists (select from @schema.run below where below.parent_id = c.id)
order by c.id
limit $2::int
for update of c skip locked`;

/** A child that has children. Takes: parent. */
const findBranch = `
select c.id
from @schema.run c
where c.parent_id = $1::uuid
  and exists (select from @schema.run below where below.parent_id = c.id)
order by c.id
limit 1`;

/** Takes: workflows, and how long their runs are kept in ms, or null, side by side. */
const declareRetention = `
with declared as (
  select workflow, kept_ms
  from unnest($1::text[], $2::float8[]) as declared(workflow, kept_ms)
),
gone as (
  delete from @schema.retention
  where workflow in (select workflow from declared where kept_ms is null)
)
insert into @schema.retention (workflow, kept_ms)
select workflow, kept_ms
from declared
where kept_ms is not null
order by workflow
on conflict (workflow) do update set kept_ms = excluded.kept_ms
where retention.kept_ms <> excluded.kept_ms`;

export const retentionStatements = {
  lockSweep,
  nextEndedGroup,
  findOldRoots,
  expiredFamilies,
  lockLeaves,
  findBranch,
  declareRetention,
};
