/*
 * What a test does to a database of its own; no app sends these. The clock of such a database is so far ahead as its one row of
 * `test_clock` says.
 */

const createClock = `create table @schema.test_clock (ahead_ms float8 not null)`;

const setUpClock = `insert into @schema.test_clock (ahead_ms) values (0)`;

const useClock = `
create or replace function @schema.engine_now() returns timestamptz language sql stable
as 'select now() + (select make_interval(secs => ahead_ms / 1000) from @schema.test_clock)'`;

/** Nobody renews a lease, or reads one, while the time moves on. */
const holdLeases = `lock table @schema.worker in access exclusive mode`;

/** Leases move with the time, which has passed for their workers as well. Takes: how far the clock shall be ahead, in ms. */
const moveClock = `
with old as (
  select ahead_ms
  from @schema.test_clock
),
moved as (
  update @schema.test_clock
  set ahead_ms = $1::float8
  returning $1::float8 - (select ahead_ms from old) as by_ms
)
update @schema.worker w
set heartbeat_at = w.heartbeat_at + make_interval(secs => moved.by_ms / 1000),
  expires_at = w.expires_at + make_interval(secs => moved.by_ms / 1000)
from moved`;

/** The lease of a worker that was killed need not be waited for. Takes: worker id. */
const expireLease = `update @schema.worker set expires_at = '-infinity' where id = $1::uuid`;

/**
 * Whether something executes, or is due; the next time when something will be, and the number by which the clock is ahead then, in ms; and
 * a number that changes with whatever happens.
 */
const lookAround = `
select
  exists (
    select from @schema.run
    where not paused
      and (status = 'running' or ready_at is not null or wake_at <= @schema.engine_now())
  ) or exists (select from @schema.schedule where due_at <= @schema.engine_now()) as is_busy,
  (select coalesce(sum(epoch + wakes), 0) from @schema.run)
    + (select count(*) from @schema.history) + (select count(*) from @schema.run where finished_at is not null) as happened,
  (
    select extract(epoch from min(next.at) - now())::float8 * 1000
    from (
      select wake_at as at from @schema.run where not paused
      union all
      select due_at from @schema.schedule
    ) next
    where next.at > @schema.engine_now()
  ) as next_ahead_ms,
  (select ahead_ms from @schema.test_clock) as ahead_ms,
  extract(epoch from now())::float8 * 1000 as real_time`;

export const testStatements = { createClock, setUpClock, useClock, holdLeases, moveClock, expireLease, lookAround };
