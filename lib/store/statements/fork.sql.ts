import { GATED_QUEUES, outputOf } from './statement.js';
import { WOKEN } from './wake.sql.js';

/** Whose run it is that is to be forked, and whether that was done before a lost reply. Takes: run id, new id. Locks nothing. */
const findTenant = `
select r.tenant, exists (select from @schema.run fork where fork.id = $2::uuid) as was_forked
from @schema.run r
where r.id = $1::uuid`;

/** A run that is to be forked. Takes: run id. Locks it against its owner's writes, so that its history is read as of one moment. */
const lockOriginal = `
select r.id, r.generation, r.ancestors
from @schema.run r
where r.id = $1::uuid
for share`;

/**
 * A new run that shares a part of a history. Of the shared entries it keeps no digests: the arguments may contain the
 * run's id, or come from an input that was edited. The last of them is received at the time of the fork, for the time of a run
 * is that of its last entry, and what the code asks for next must not be over before it begins.
 * Takes: the original's id, the new id, the seqs that are shared, the last of them, has_input, input, its digest, ancestors (JSON), trace.
 * Locks nothing but what it inserts. Returns: the new run; nothing when this is a repetition after a lost reply.
 */
const forkRun = `
with r as (
  insert into @schema.run (
    id, workflow, version, status, queue, priority, tenant, label, attributes, context, trace, input, input_digest,
    root_id, depth, gated, ready_at, deadline, created_at, started_at, generation, history_begins_at, forked_from, ancestors
  )
  select $2::uuid, workflow, version, 'pending', queue, priority, tenant, label, attributes, context, $9::text,
    case when $5::bool then $6::text else input end,
    case when $5::bool then $7::text else input_digest end,
    $2::uuid, 1, queue in (${GATED_QUEUES}), @schema.engine_now(), @schema.engine_now() + (deadline - created_at), @schema.engine_now(), @schema.engine_now(),
    generation, case when $4::int > 0 then coalesce(history_begins_at, started_at) end, id, $8::text
  from @schema.run
  where id = $1::uuid
  on conflict (id) do nothing
  returning id, status, epoch, wakes, queue, worker_id
),
shared as (
  insert into @schema.history (
    run_id, seq, kind, scope, name, ordinal, status, output, error, attempts, after_seq, started_at, finished_at, child_id, logs
  )
  select r.id, h.seq, h.kind, h.scope, h.name, h.ordinal, h.status,
    ${outputOf('h')}, h.error, h.attempts, h.after_seq, h.started_at,
    case when h.seq = $4::int then date_trunc('milliseconds', @schema.engine_now()) else h.finished_at end,
    h.child_id, h.logs
  from @schema.history h
  cross join r
  where h.run_id = $1::uuid
    and h.seq = any($3::int[])
)
select ${WOKEN}
from r`;

export const forkStatements = { findTenant, lockOriginal, forkRun };
