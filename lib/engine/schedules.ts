import type { FlowClass, WorkflowClass, WorkflowDefinition } from './definition.js';
import { digestOf } from './digest.js';
import { tryParseDuration } from './duration.js';
import type { Engine } from './engine.js';
import { ScheduleNotFoundError } from './errors.js';
import { newId } from './new-id.js';
import type { RunHandle } from './orchestrator.js';
import type { Page } from './run.js';
import { checkSchedule, type DeclaredSchedule, type ScheduleOptions, toTiming } from './schedule-options.js';
import type { Schedule, ScheduleFilter, ScheduleSummary } from './schedule-store.js';

/** `orchestrator.schedules`: what starts runs at times. Workers start them, once for each tick over all processes. */
export class Schedules {
  constructor(
    private readonly engine: () => Promise<Engine>,
    private readonly handleOf: (run: { id: string; started: boolean }) => RunHandle,
  ) {}

  /**
   * Makes the schedule with that id, or changes it. It keeps its place in its ticks unless `cron`, `every` or `timeZone` is
   * another one, and it stays paused. @throws ValidationError, WorkflowNotRegisteredError, PayloadError
   */
  async upsert<W extends WorkflowClass | FlowClass | string>(
    id: string,
    options: ScheduleOptions<W>,
  ): Promise<Schedule> {
    const engine = await this.engine();
    await upsertSchedule(engine, { id, options: options as ScheduleOptions });
    return this.get(id);
  }

  /** @throws ScheduleNotFoundError */
  async get(id: string): Promise<Schedule> {
    const schedule = await (await this.engine()).store.schedules.get(id);
    if (!schedule) throw new ScheduleNotFoundError(id);
    return schedule;
  }

  /** In the order of their ids, page by page. @throws ValidationError */
  async list(filter: ScheduleFilter = {}): Promise<Page<ScheduleSummary>> {
    return (await this.engine()).store.schedules.list(filter);
  }

  /** Its ticks start nothing until `resume`, and are not made up for. Idempotent. @throws ScheduleNotFoundError */
  async pause(id: string): Promise<void> {
    if (!(await (await this.engine()).store.schedules.pause(id))) throw new ScheduleNotFoundError(id);
  }

  /** Idempotent. @throws ScheduleNotFoundError */
  async resume(id: string): Promise<void> {
    if (!(await (await this.engine()).store.schedules.resume(id))) throw new ScheduleNotFoundError(id);
  }

  /**
   * Starts a run now, as a tick would, also while the schedule is paused. Where `overlap` starts none beside the active one,
   * that one is returned, with `started` false. @throws ScheduleNotFoundError
   */
  async trigger(id: string): Promise<RunHandle> {
    const engine = await this.engine();
    const runId = newId();
    const fired = await engine.store.schedules.trigger(id, runId);
    if (!fired) throw new ScheduleNotFoundError(id);
    engine.fired(fired);
    return this.handleOf({ id: fired.runId, started: fired.runId === runId });
  }

  /** Its runs go on. Idempotent. */
  async delete(id: string): Promise<void> {
    await (await this.engine()).store.schedules.delete(id);
  }
}

/** The id of a declared schedule. */
export function declaredId(workflow: string, { id = workflow }: DeclaredSchedule): string {
  return id;
}

/**
 * Brings the declared schedules of the workflows of this process to what their highest versions say; one that they no longer
 * declare is deleted. Each process does so at its boot, so during a deploy the last one decides.
 */
export async function declareSchedules(engine: Engine): Promise<void> {
  const newest = engine.registry.newest();
  const ids: string[] = [];
  for (const definition of newest) {
    for (const schedule of definition.schedules) {
      const { id: _, ...options } = schedule;
      const id = declaredId(definition.name, schedule);
      await upsertSchedule(engine, { id, options: { ...options, workflow: definition.name }, definition });
      ids.push(id);
    }
  }
  const workflows = newest.map(({ name }) => name);
  await engine.store.schedules.deleteUndeclared(workflows, ids);
}

interface Upsert {
  id: string;
  options: ScheduleOptions;
  /** That declares it. */
  definition?: WorkflowDefinition;
}

async function upsertSchedule(engine: Engine, { id, options, definition: declaring }: Upsert): Promise<void> {
  checkSchedule(id, options);
  const { name, version, definition } = declaring
    ? { ...declaring, definition: declaring }
    : await engine.resolve(options.workflow);
  await engine.store.schedules.upsert({
    id,
    ...toTiming(options),
    overlap: options.overlap ?? 'skip',
    missed: options.missed ?? 'once',
    jitterMs: tryParseDuration(options.jitter ?? 0)!,
    workflow: name,
    version,
    queue: definition?.queue ?? 'default',
    timeoutMs: definition?.timeoutMs ?? null,
    input: engine.serializer.encode(options.input, `the input of schedule '${id}'`),
    inputDigest: digestOf(options.input),
    declared: declaring !== undefined,
  });
}
