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

/** A parent that waits for its child from the beginning, and the child. Takes: parent ids, child ids, inputs. */
const startPair = `
with pair as (
  select * from unnest((select $1::uuid[]), $2::uuid[], $3::text[]) as p(parent_id, child_id, input)
),
parent as (
  insert into orchestration.run (
    id, workflow, version, status, queue, priority, input, input_digest, root_id, depth, epoch, worker_id, waiting_for, created_at, started_at
  )
  select parent_id, 'parent', 1, 'waiting', 'default', 0, input, ${digest}, parent_id, 1, 1, ${worker}, '[{"kind":"child"}]', now(), now()
  from pair
)
insert into orchestration.run (
  id, workflow, version, status, queue, priority, input, input_digest, parent_id, root_id, depth, ref, awaited,
  epoch, worker_id, created_at, started_at
)
select child_id, 'one-step', 1, 'running', 'default', 0, input, ${digest}, parent_id, parent_id, 2, 'one-step#1', true,
  1, ${worker}, now(), now()
from pair`;

const outcomeColumns =
  'run_id, seq, kind, scope, name, ordinal, status, digest, output, attempts, after_seq, started_at, finished_at, child_id';

const endOf = (id: string) => `update orchestration.run r
set status = 'completed', write_no = r.write_no + 1, output = w.output, waiting_for = null, worker_id = null, finished_at = now()
from written w
where r.id = w.${id}`;

/** The last outcomes of runs, and their ends. Takes: run ids, seqs, outputs. */
const end = `
with written as (
  select * from unnest((select $1::uuid[]), $2::int[], $3::text[]) as w(id, seq, output)
),
outcome as (
  insert into orchestration.history (${outcomeColumns})
  select id, seq, 'step', '', 'work', seq, 'completed', ${digest}, output, 1, seq - 1, now(), now(), null
  from written
)
${endOf('id')}`;

/** A child ends, and its parent by that. Takes: child ids, parent ids, outputs. */
const endBoth = `
with written as (
  select * from unnest((select $1::uuid[]), $2::uuid[], $3::text[]) as w(id, parent_id, output)
),
outcome as (
  insert into orchestration.history (${outcomeColumns})
  select id, 1, 'step', '', 'work', 1, 'completed', ${digest}, output, 1, 0, now(), now(), null::uuid
  from written
  union all
  select parent_id, 1, 'child', '', 'one-step#1', 1, 'completed', ${digest}, output, 1, 0, now(), now(), id
  from written
),
parent as (
  ${endOf('parent_id')}
)
${endOf('id')}`;

const named = (name: string, text: string) => ({ name, text });

export const floorStatements = {
  start: named('start', start),
  record: named('record', record),
  startPair: named('startPair', startPair),
  end: named('end', end),
  endBoth: named('endBoth', endBoth),
};
