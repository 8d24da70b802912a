import { RowSet } from './row-set.js';

export const NEW_SIGNALS = new RowSet({
  position: 'int',
  run_id: 'uuid',
  id: 'text',
  name: 'text',
  payload: 'text',
  tree_wait: 'text',
});

export const WANTED_SIGNALS = new RowSet({ position: 'int', run_id: 'uuid', name: 'text', after_seq: 'int' });

/** At most so many of a name are loaded at a time, and no more of them than have so many bytes together. */
const LARGEST_LOAD = { signals: 100, bytes: 1_048_576 };

const SENT = `sent.outcome, sent.status, sent.epoch, sent.wakes, sent.queue, sent.worker_id,
  extract(epoch from sent.sent_at)::float8 * 1000 as sent_at`;

/**
 * Sends signals, each to one run. Takes: NEW_SIGNALS. Locks the runs, in the order of ids.
 * Returns a row for each that there is a run for: what became of the signal, and the run that it woke.
 */
const sendSignals = `
select s.position, s.run_id as id, ${SENT}
from (
  select * from ${NEW_SIGNALS.unnest('s', 1)} order by run_id, position
) s
cross join lateral @schema.send_signal(s.run_id, s.id, s.name, s.payload, false, false) sent`;

/** As sendSignals, and to those descendants that wait for the signal. Returns a row for each run that it reached. */
const sendSignalsToTrees = `
select s.position, s.target as id, ${SENT}
from (
  select s.*, target.run_id as target, target.for_waits
  from ${NEW_SIGNALS.unnest('s', 1)}
  cross join lateral @schema.signal_targets(s.run_id, s.id, s.tree_wait) target
  order by target.run_id, s.position
) s
cross join lateral @schema.send_signal(s.target, s.id, s.name, s.payload, s.for_waits, false) sent`;

/**
 * A signal that is sent by the commit of the transaction that this is in (see the trigger in the migration). Takes: id of the row, run id,
 * signal id, name, payload, tree_wait. Locks nothing. Returns: the status of the run, and whether it has that signal already.
 */
const sendAtCommit = `
with target as (
  select r.id, r.status, r.finished_at, exists (select from @schema.signal s where s.run_id = r.id and s.id = $3::text) as repeated
  from @schema.run r
  where r.id = $2::uuid
),
outgoing as (
  insert into @schema.outgoing_signal (sender, id, run_id, signal_id, name, payload, tree_wait)
  select pg_current_xact_id()::text::bigint, $1::uuid, $2::uuid, $3::text, $4::text, $5::text, $6::text
  from target
  where finished_at is null
    and not repeated
)
select status, case when repeated then 'repeated' when finished_at is null then 'sent' else 'finished' end as outcome
from target`;

/**
 * Signals that runs have not received. Takes: WANTED_SIGNALS. Locks nothing.
 * Returns: those of each run and name in their order, and with the last of them whether there are more.
 */
const loadSignals = `
select wanted.position, s.id, s.seq, s.payload, s.for_waits, s.has_more, extract(epoch from s.sent_at)::float8 * 1000 as sent_at
from ${WANTED_SIGNALS.unnest('wanted', 1)}
cross join lateral (
  select head.*,
    row_number() over so_far as place,
    sum(coalesce(octet_length(head.payload), 0)) over so_far - coalesce(octet_length(head.payload), 0) as bytes_before,
    lead(true) over so_far is not null as has_more
  from (
    select s.id, s.seq, s.payload, s.for_waits, s.sent_at
    from @schema.signal s
    where s.run_id = wanted.run_id
      and s.name = wanted.name
      and s.seq > wanted.after_seq
      and not s.consumed
      and not exists (
        select from @schema.history h
        where h.run_id = s.run_id
          and h.kind = 'signal'
          and h.digest = s.id
      )
    order by s.seq
    limit ${LARGEST_LOAD.signals + 1}
  ) head
  window so_far as (order by head.seq)
) s
where s.place <= ${LARGEST_LOAD.signals}
  and s.bytes_before < ${LARGEST_LOAD.bytes}
order by wanted.position, s.seq`;

export const signalStatements = { sendSignals, sendSignalsToTrees, sendAtCommit, loadSignals };
