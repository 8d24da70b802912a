/*
 * The rows of the group commit, without what the engine asks on the way: no locks in the order of ids, no fencing, no queues, no look at who
 * waits. As there, the first array is hidden from the planner, or it would plan at each execution.
 */
const digest = "'7y0SfeN7lCuq0GFF5UsMYZ'";
const worker = "'00000000-0000-7000-8000-000000000000'::uuid";

/** Takes: ids, workflows, inputs. */
const start = `
insert into orchestration.run (
  id, workflow, version, status, queue, priority, input, input_digest, root_id, depth, epoch, worker_id, created_at, started_at
)
select id, workflow, 1, 'running', 'default', 0, input, ${digest}, id, 1, 1, ${worker}, now(), now()
from unnest((select $1::uuid[]), $2::text[], $3::text[]) as r(id, workflow, input)`;

/** Outcomes of steps. Takes: run ids, seqs, outputs. */
const record = `
insert into orchestration.history (
  run_id, seq, kind, scope, name, ordinal, status, digest, output, attempts, after_seq, started_at, finished_at
)
select run_id, seq, 'step', '', 'work', seq, 'completed', ${digest}, output, 1, seq - 1, now(), now()
from unnest((select $1::uuid[]), $2::int[], $3::text[]) as h(run_id, seq, output)`;

/** A child begins, its parent parks. Takes: ids, parent ids, inputs. */
const callChild = `
with new_child as (
  select * from unnest((select $1::uuid[]), $2::uuid[], $3::text[]) as c(id, parent_id, input)
),
child as (
  insert into orchestration.run (
    id, workflow, version, status, queue, priority, input, input_digest, parent_id, root_id, depth, ref, awaited,
    epoch, worker_id, created_at, started_at
  )
  select id, 'one-step', 1, 'running', 'default', 0, input, ${digest}, parent_id, parent_id, 2, 'one-step#1', true,
    1, ${worker}, now(), now()
  from new_child
)
update orchestration.run r
set status = 'waiting', write_no = 1, waiting_for = '[{"kind":"child"}]'
from new_child c
where r.id = c.parent_id`;

/** The last outcome, the end, and the wake-up of the parent. Takes: run ids, seqs, kinds, names, child ids, outputs, parent ids. */
const end = `
with written as (
  select *
  from unnest((select $1::uuid[]), $2::int[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::uuid[])
    as w(id, seq, kind, name, child_id, output, parent_id)
),
outcome as (
  insert into orchestration.history (
    run_id, seq, kind, scope, name, ordinal, status, digest, output, attempts, after_seq, started_at, finished_at, child_id
  )
  select id, seq, kind, '', name, 1, 'completed', ${digest}, output, 1, seq - 1, now(), now(), child_id
  from written
),
woken as (
  update orchestration.run r
  set status = 'running', wakes = r.wakes + 1, waiting_for = null
  from written w
  where r.id = w.parent_id
)
update orchestration.run r
set status = 'completed', write_no = r.write_no + 1, output = w.output, worker_id = null, finished_at = now()
from written w
where r.id = w.id`;

const named = (name: string, text: string) => ({ name, text });

export const floorStatements = {
  start: named('start', start),
  record: named('record', record),
  callChild: named('callChild', callChild),
  end: named('end', end),
};
