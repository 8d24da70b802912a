import { GATED_QUEUES } from './statement.js';
import { WOKEN } from './wake.sql.js';

/**
 * Pauses a run that has not ended, or lets it go on. Its queue may have got limits meanwhile, and gateRuns finds no paused runs.
 * Takes: run id, paused. Locks the run. Returns: it, if it has not ended.
 */
const setPaused = `
update @schema.run r
set paused = $2::bool,
  gated = r.gated or r.queue in (${GATED_QUEUES})
where r.id = $1::uuid
  and r.finished_at is null
returning ${WOKEN}`;

/**
 * Takes a run that was paused from the worker that has it, which has nothing of it under way. Takes: run id, epoch. Locks the run.
 * Returns: it, unless it is another worker's by now or has ended.
 */
const giveUpRun = `
update @schema.run r
set status = 'pending',
  ready_at = @schema.engine_now(),
  worker_id = null,
  epoch = r.epoch + 1
where r.id = $1::uuid
  and r.epoch = $2::int
  and r.status = 'running'
returning ${WOKEN}`;

export const pauseStatements = { setPaused, giveUpRun };
