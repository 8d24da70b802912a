/** Runs and all their descendants. Takes: run ids. Locks them, in the order of ids. Returns: id, status and root of each. */
const lockFamilies = `
with recursive family as (
  select id
  from @schema.run
  where id = any($1::uuid[])
  union
  select child.id
  from @schema.run child
  join family on child.parent_id = family.id
)
select r.id, r.status, r.root_id
from @schema.run r
where r.id = any(array(select id from family))
order by r.id
for update of r`;

/**
 * Active runs that need what would be deleted, one for each: the parent, whose code may ask for the child again, and those
 * that wait for the end of one of them and have not recorded it yet. Takes: the topmost runs, all ids. Locks nothing:
 * whoever begins to wait locks the run that it waits for.
 */
const findUsers = `
select distinct on (needs) *
from (
  select parent.id, parent.status, child.id as needs
  from @schema.run child
  join @schema.run parent on parent.id = child.parent_id
  where child.id = any($1::uuid[])
    and parent.finished_at is null
  union all
  select watcher.id, watcher.status, w.run_id
  from @schema.watch w
  join @schema.run watcher on watcher.id = w.watcher_id
  where w.run_id = any($2::uuid[])
    and watcher.id <> all($2::uuid[])
    and watcher.finished_at is null
    and not exists (
      select from @schema.history h
      where h.run_id = watcher.id
        and h.child_id = w.run_id
        and h.kind = 'child'
    )
) user_of
order by needs`;

/** Takes: ids of runs that this transaction has locked. */
const deleteRuns = `
with without_history as (
  delete from @schema.history where run_id = any($1::uuid[])
),
without_signals as (
  delete from @schema.signal where run_id = any($1::uuid[])
),
without_watches as (
  delete from @schema.watch where run_id = any($1::uuid[]) or watcher_id = any($1::uuid[])
),
without_inputs as (
  delete from @schema.input where run_id = any($1::uuid[])
)
delete from @schema.run
where id = any($1::uuid[])`;

export const deleteStatements = { lockFamilies, findUsers, deleteRuns };
