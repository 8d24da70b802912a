import { RowSet } from './row-set.js';
import { GATED_QUEUES, isReadyOf, readyDefinitions, urgency, urgencyOf } from './statement.js';

/** What starts and commits share: where a new run begins, and how a child is inserted. */

/**
 * The CTE `head`: of each queue of the new runs, the urgency of its first claimable run. A new run may begin in the process that
 * inserts it only when it would come before that, for an eager start must not overtake; and not where the queue has a gate.
 *
 * Written as "the first in the order of the index", not as `exists`: an ordered index scan remembers which entries are
 * dead, while the bitmap scan that `exists` gets walks all that a busy minute has left, until the next vacuum.
 *
 * The queues are an array, which the planner takes for ten. From hundreds of new runs it would expect 200 queues, and with so many searches
 * take the statement for one that is worth compiling (`jit_above_cost`): a fifth of a second, each time.
 */
export function headOfQueues(newRuns: string, definitions: string): string {
  return `
head as materialized (
  select new.queue, new.queue in (${GATED_QUEUES}) as gated, (
    select min(first.urgency)
    from (${readyDefinitions('new.queue', definitions)}) definition
    cross join lateral (
      select ${urgency('waiting')} as urgency
      from @schema.run waiting
      where ${isReadyOf('waiting', 'new.queue', 'definition')}
      order by ${urgency('waiting')}, waiting.id
      limit 1
    ) first
  ) as urgency
  from unnest(array(select distinct queue from ${newRuns})) as new(queue)
)`;
}

/**
 * The CTE `alive`: the worker, while it has its lease, and only when it is `needed` to be: runs that this statement makes
 * its own must be found by those who take over from it. So its row is locked against its removal until they are committed;
 * and whoever removes it looks for its runs after that, by a statement of its own.
 */
export function aliveWorker(workerId: string, needed: string): string {
  return `
alive as materialized (
  select id
  from @schema.worker
  where id = ${workerId}::uuid
    and expires_at > @schema.engine_now()
    and ${needed}
  for key share
)`;
}

/** Whether the new run of that alias begins at once; `head` must be joined to it by its queue. */
export const BEGINS = (run: string) =>
  `(${run}.eager and not head.gated and coalesce(${urgencyOf('@schema.engine_now()', `${run}.priority`)} < head.urgency, true) and exists (select from alive))`;

/**
 * Whether a run that is there already, by a start whose reply was lost, was given to the worker that started it, and is still: nobody has
 * claimed it since. A claim would have another time, and one after that another epoch.
 */
export const BEGAN_AT_ONCE = (run: string) =>
  `(${run}.status = 'running' and ${run}.epoch = 1 and ${run}.started_at = ${run}.created_at)`;

/** The columns that each kind of new run has. */
export const OF_NEW_RUN = {
  id: 'uuid',
  workflow: 'text',
  version: 'int',
  queue: 'text',
  priority: 'int',
  tenant: 'text',
  label: 'text',
  attributes: 'text',
  input: 'text',
  input_digest: 'text',
  context: 'text',
  trace: 'text',
  timeout_ms: 'float8',
} as const;

export const USUAL_NEW_RUN = { version: 1, queue: 'default', priority: 0 };

export const CHILDREN = new RowSet(
  {
    ...OF_NEW_RUN,
    deadline: 'float8',
    parent_id: 'uuid',
    root_id: 'uuid',
    depth: 'int',
    ref: 'text',
    scope: 'text',
    awaited: 'bool',
    cascades: 'bool',
    closes_with_parent: 'bool',
    shielded: 'bool',
    eager: 'bool',
  },
  {
    usual: {
      ...USUAL_NEW_RUN,
      scope: '',
      awaited: true,
      cascades: true,
      closes_with_parent: false,
      shielded: false,
      eager: true,
    },
  },
);

/**
 * Inserts the children that the CTE `placed_child` has: rows of CHILDREN with `begins` and `now`. Returns what came of each. `onConflict`:
 * what to do with one that is there already, by an earlier start or a lost reply.
 */
export const insertChildren = (workerId: string, onConflict = 'on conflict do nothing') => `
  insert into @schema.run (
    id, workflow, version, status, queue, priority, tenant, label, attributes, input, input_digest, context, trace, deadline,
    parent_id, root_id, depth, ref, scope, awaited, cascades, closes_with_parent,
    gated, epoch, worker_id, ready_at, created_at, started_at
  )
  select id, workflow, version, case when begins then 'running' else 'pending' end,
    queue, priority, tenant, label, attributes::jsonb, input, input_digest, context, trace,
    least(to_timestamp(deadline / 1000), now + make_interval(secs => timeout_ms / 1000)),
    parent_id, root_id, depth, ref, scope, awaited, cascades, closes_with_parent,
    queue in (${GATED_QUEUES}), begins::int,
    case when begins then ${workerId}::uuid end,
    case when not begins then now end,
    now,
    case when begins then now end
  from placed_child
  ${onConflict}
  returning id, status, deadline, created_at`;
