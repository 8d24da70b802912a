import { RowSet } from './row-set.js';

export const HEARTBEATS = new RowSet({
  run_id: 'uuid',
  epoch: 'int',
  seq: 'int',
  scope: 'text',
  name: 'text',
  ordinal: 'int',
  progress: 'text',
  attempt: 'int',
  after_seq: 'int',
  started_at: 'float8',
});

/**
 * The newest heartbeat of steps: a row for each step, which the next one overwrites. Not of a run that has ended or is another
 * worker's by now.
 * Takes: HEARTBEATS. Locks the runs, in the order of their ids, so that none is claimed by another worker in between.
 */
const keepHeartbeats = `
with owned as (
  select b.*
  from ${HEARTBEATS.unnest('b', 1)}
  join @schema.run r on r.id = b.run_id
  where r.epoch = b.epoch
    and r.finished_at is null
  order by r.id
  for share of r
)
insert into @schema.history as kept (
  run_id, seq, kind, scope, name, ordinal, status, output, attempts, after_seq, started_at, finished_at
)
select run_id, seq, 'progress', scope, name, ordinal, 'completed', progress, attempt, after_seq,
  to_timestamp(started_at / 1000), @schema.engine_now()
from owned
on conflict (run_id, seq) do update
set output = excluded.output,
  attempts = excluded.attempts,
  finished_at = excluded.finished_at
where kept.kind = 'progress'`;

export const heartbeatStatements = { keepHeartbeats };
