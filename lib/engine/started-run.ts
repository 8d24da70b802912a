import type { ClaimedRun } from './claimed-run.js';
import type { NewRun, StartResult } from './new-run.js';

/** The claim of a run that was inserted as already owned. */
export function toClaimedRun(run: NewRun, result: Pick<StartResult, 'at' | 'deadline'>): ClaimedRun {
  return {
    id: run.id,
    workflow: run.workflow,
    version: run.version,
    key: run.key,
    queue: run.queue,
    priority: run.priority,
    tenant: run.tenant,
    attributes: run.attributes ?? {},
    input: run.input,
    context: run.context,
    trace: run.trace,
    parentId: run.parent?.parentId ?? null,
    parentAwaits: run.parent?.awaited ?? false,
    rootId: run.parent?.rootId ?? run.id,
    depth: run.parent?.depth ?? 1,
    epoch: 1,
    wakes: 0,
    recoveries: 0,
    generation: 0,
    ancestors: null,
    startedAt: result.at,
    retriedAt: null,
    deadline: result.deadline,
    cancel: null,
    fresh: true,
    readyAt: null,
  };
}
