/**
 * Lets a run begin anew, in the transaction of the write that asks for it, which has locked the run. The run stays where it
 * runs, under a new epoch, so that nothing of the old generation can be written any more. One statement decides for each
 * child, by its latest version, whether it has ended and frees its ref, or is carried over. Which signals were read was in the
 * history; now it is with the signals, of which nothing stays but their ids: a run that goes on for ever must not grow.
 * Takes: run id, input, the generation and the epoch that ask. Locks the children.
 * Returns: the new generation, also when it is there already: then this is a repetition after a lost reply. Nothing when the
 * run is another worker's by now.
 */
const continueRun = `
with continued as (
  update @schema.run r
  set input = $2::text,
    generation = r.generation + 1,
    history_begins_at = @schema.engine_now(),
    ancestors = null,
    epoch = r.epoch + 1,
    write_no = 0,
    recoveries = 0,
    recovered_seq = 0
  where r.id = $1::uuid
    and r.generation = $3::int
    and r.epoch = $4::int
    and r.status = 'running'
  returning r.id, r.worker_id, r.generation, r.epoch, r.wakes, r.history_begins_at
),
forgotten as (
  delete from @schema.history h
  using continued
  where h.run_id = continued.id
),
read as (
  update @schema.signal s
  set consumed = true,
    payload = null
  from continued
  join @schema.history h on h.run_id = continued.id and h.kind = 'signal'
  where s.run_id = continued.id
    and s.id = h.digest
),
children as (
  update @schema.run child
  set superseded = child.finished_at is not null,
    carried_over = child.finished_at is null
  from continued
  where child.parent_id = continued.id
    and not child.superseded
)
select worker_id, generation, epoch, wakes, extract(epoch from history_begins_at)::float8 * 1000 as started_at
from continued
union all
select worker_id, generation, epoch, wakes, extract(epoch from history_begins_at)::float8 * 1000
from @schema.run
where id = $1::uuid
  and generation = $3::int + 1
  and epoch = $4::int + 1
  and status = 'running'`;

export const continueStatements = { continueRun };
