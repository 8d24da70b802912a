import { OUTCOMES } from './commit.sql.js';

/** How long the transaction of a transactional step may be silent once it holds its run's row. */
const SILENCE_MS = 10_000;

/**
 * The outcome of a transactional step, in the transaction that the step's body has written in: its last statement before the commit.
 *
 * The run's row is held until then, so that no other worker takes the run over in between; a process that freezes between
 * the two would hold it too, and with it everybody who wants to write the run, so the database ends the transaction for it.
 * Takes: epoch, OUTCOMES (one). Locks the run. Returns the `seq`, or nothing when the run is another worker's now.
 */
const recordOutcome = `
with owner as (
  select r.id, set_config('idle_in_transaction_session_timeout', '${SILENCE_MS}', true)
  from ${OUTCOMES.unnest('h', 2)}
  join @schema.run r on r.id = h.run_id
  where r.epoch = $1::int
    and r.status = 'running'
  for no key update of r
)
insert into @schema.history (
  run_id, seq, kind, scope, name, ordinal, status, digest, output, error, attempts, after_seq, started_at, finished_at, child_id, logs
)
select h.run_id, h.seq, h.kind, h.scope, h.name, h.ordinal, h.status, h.digest, h.output, h.error, h.attempts, h.after_seq,
  to_timestamp(h.started_at / 1000), to_timestamp(h.finished_at / 1000), h.child_id, h.logs
from ${OUTCOMES.unnest('h', 2)}
join owner on owner.id = h.run_id
returning seq`;

/** Whether a step has that outcome. Takes: run id, seq, scope, name, ordinal. Locks nothing. */
const findOutcome = `
select seq
from @schema.history
where run_id = $1::uuid
  and seq = $2::int
  and kind = 'step'
  and scope = $3::text
  and name = $4::text
  and ordinal = $5::int`;

/**
 * Ends the statement that a connection is at. Takes: process id and client port of the connection, by which it is told from
 * another one that a pooler stands before. Locks nothing.
 */
const cancelStatement = `
select pg_cancel_backend(pid)
from pg_stat_activity
where pid = $1::int
  and client_port = $2::int
  and datname = current_database()
  and usename = current_user
  and state = 'active'`;

export const transactionStatements = { recordOutcome, findOutcome, cancelStatement };
