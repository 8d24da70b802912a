import { RowSet } from './row-set.js';

/** A schedule as it is written. Times are epoch ms. */
export const SCHEDULES = new RowSet({
  id: 'text',
  workflow: 'text',
  version: 'int',
  queue: 'text',
  timeout_ms: 'float8',
  input: 'text',
  input_digest: 'text',
  cron: 'text',
  every_ms: 'float8',
  time_zone: 'text',
  overlap: 'text',
  missed: 'text',
  jitter_ms: 'float8',
  declared: 'bool',
  paused: 'bool',
  last_tick: 'float8',
  last_run_id: 'uuid',
  last_run_at: 'float8',
  next_tick: 'float8',
  due_at: 'float8',
});

const TIMES = new Set(['last_tick', 'last_run_at', 'next_tick', 'due_at']);
const columns = SCHEDULES.names;
const written = columns.map((name) => (TIMES.has(name) ? `to_timestamp(u.${name} / 1000)` : `u.${name}`));
const read = columns.map((name) =>
  TIMES.has(name) ? `round(extract(epoch from s.${name}) * 1000)::float8 as ${name}` : `s.${name}`,
);
const AT = `extract(epoch from @schema.engine_now())::float8 * 1000 as at`;

/** The schedules whose tick is due, the longest due first. Takes: limit. Locks them, skips those that another has. */
const lockDueSchedules = `
select ${read.join(', ')}, ${AT}
from @schema.schedule s
where s.due_at <= @schema.engine_now()
order by s.due_at, s.id
limit $1::int
for update of s skip locked`;

/** Takes: id. Locks the schedule. */
const lockSchedule = `
select ${read.join(', ')}, ${AT}
from @schema.schedule s
where s.id = $1::text
for update of s`;

/** When the next tick of any schedule is due, and the time. */
const nextScheduleDue = `
select extract(epoch from min(due_at))::float8 * 1000 as next, ${AT}
from @schema.schedule
where due_at is not null`;

/** Takes: SCHEDULES (one). Returns nothing when there is one with that id. */
const insertSchedule = `
insert into @schema.schedule (${columns.join(', ')}, created_at)
select ${written.join(', ')}, @schema.engine_now()
from ${SCHEDULES.unnest('u', 1)}
on conflict do nothing
returning id`;

/** Takes: SCHEDULES that this transaction has locked. */
const updateSchedules = `
update @schema.schedule s
set ${columns.map((name, index) => `${name} = ${written[index]}`).join(',\n  ')}
from ${SCHEDULES.unnest('u', 1)}
where s.id = u.id`;

/** Takes: id. */
const deleteSchedule = `
delete from @schema.schedule
where id = $1::text`;

/** Takes: workflows, ids to leave. */
const deleteUndeclaredSchedules = `
delete from @schema.schedule
where declared
  and workflow = any($1::text[])
  and id <> all($2::text[])`;

/** Of the last runs of schedules those that are active, and whether they wait for the one before. Takes: run ids. Locks nothing. */
const activeLastRuns = `
select id, status = 'waiting' and started_at is null as waits
from @schema.run
where id = any($1::uuid[])
  and finished_at is null`;

/**
 * Has a new run begin when another has ended, whose end wakes it as it wakes those that await it; unless that has ended.
 * Takes: the new run, the other one, which this transaction has locked and watches, and the new run's waits as JSON.
 * Returns nothing when the other has ended.
 */
const waitBehind = `
update @schema.run r
set status = 'waiting',
  ready_at = null,
  waiting_for = $3::text
from @schema.run before
where r.id = $1::uuid
  and before.id = $2::uuid
  and before.finished_at is null
returning r.id`;

export const scheduleStatements = {
  lockDueSchedules,
  lockSchedule,
  nextScheduleDue,
  insertSchedule,
  updateSchedules,
  deleteSchedule,
  deleteUndeclaredSchedules,
  activeLastRuns,
  waitBehind,
};
