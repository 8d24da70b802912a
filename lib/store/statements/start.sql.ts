import { RowSet } from './row-set.js';

export const NEW_RUNS = new RowSet({
  id: 'uuid',
  workflow: 'text',
  version: 'int',
  key: 'text',
  queue: 'text',
  priority: 'int',
  tenant: 'text',
  label: 'text',
  attributes: 'text',
  input: 'text',
  input_digest: 'text',
  delay_ms: 'float8',
  start_at: 'float8',
  timeout_ms: 'float8',
  eager: 'bool',
});

const after = NEW_RUNS.width + 1;

/**
 * Whether a run may begin in the process that inserts it: nothing at least as urgent may be claimable on its queue, for
 * an eager start must not overtake. `run` is the alias of the row, `definitions` the parameter with what is known here.
 */
export function mayBegin(run: string, definitions: string): string {
  return `
  select ${run}.eager and not exists (
    select from @schema.run waiting
    where waiting.queue = ${run}.queue
      and waiting.ready_at is not null
      and waiting.priority >= ${run}.priority
      and not waiting.paused
      and waiting.workflow || '@' || waiting.version = any(${definitions}::text[])
  ) as eager`;
}

/**
 * Inserts runs that have no parent. A key that is taken inserts nothing, and so does a repetition after a lost reply.
 * Takes: NEW_RUNS, worker id, definitions. Locks nothing but what it inserts.
 * Returns: id, status, deadline and time of each run that was inserted.
 */
const insertRuns = `
insert into @schema.run (
  id, workflow, version, key, status, queue, priority, tenant, label, attributes, input, input_digest,
  root_id, depth, epoch, worker_id, ready_at, wake_at, deadline, created_at, started_at
)
select
  r.id, r.workflow, r.version, r.key, case when own.eager then 'running' else 'pending' end,
  r.queue, r.priority, r.tenant, r.label, r.attributes::jsonb, r.input, r.input_digest,
  r.id, 1,
  case when own.eager then 1 else 0 end,
  case when own.eager then $${after}::uuid end,
  case when not own.eager and due.at <= t.now then t.now end,
  case when due.at > t.now then due.at end,
  greatest(due.at, t.now) + make_interval(secs => r.timeout_ms / 1000),
  t.now,
  case when own.eager then t.now end
from ${NEW_RUNS.unnest('r', 1)}
cross join lateral (select @schema.engine_now() as now) t
cross join lateral (select coalesce(to_timestamp(r.start_at / 1000), t.now + make_interval(secs => coalesce(r.delay_ms, 0) / 1000)) as at) due
cross join lateral (${mayBegin('r', `$${after + 1}`)}) own
on conflict do nothing
returning id, status,
  extract(epoch from deadline)::float8 * 1000 as deadline,
  extract(epoch from created_at)::float8 * 1000 as at`;

/**
 * The runs that hold these ids or keys. Takes: ids, workflows, keys, side by side. Locks nothing.
 * Returns: the position asked for, and id, status, input digest, deadline, time of the start.
 */
const findStarted = `
select wanted.position::int, r.id, r.status, r.input_digest,
  extract(epoch from r.deadline)::float8 * 1000 as deadline,
  extract(epoch from r.created_at)::float8 * 1000 as at
from unnest($1::uuid[], $2::text[], $3::text[]) with ordinality as wanted(id, workflow, key, position)
cross join lateral (
  select * from @schema.run held where held.id = wanted.id
  union
  select * from @schema.run held where held.workflow = wanted.workflow and held.key = wanted.key and not held.superseded
) r`;

export const startStatements = { insertRuns, findStarted };
