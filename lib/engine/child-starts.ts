import { setTimeout as delay } from 'node:timers/promises';
import type { ChildLink } from './child-links.js';
import { WorkflowNotRegisteredError } from './errors.js';
import type { RunExecution } from './run-execution.js';
import type { NewRun } from './new-run.js';
import { turn } from './turn.js';
import { UNRESOLVED_VERSION } from './unresolved-version.js';
import type { WriteBuffer } from './write-buffer.js';

const LOOK_UP_PAUSE_MS = 1_000;

/** What becomes of a child that is to be started. */
export interface ChildStartListener {
  /** Its row is committed. */
  durable(): void;
  /** There is no such workflow. */
  refused(error: unknown): void;
  /** The cancellation of this run was before it, or nobody wants it any more: there is no such child. */
  cancelled(): void;
  /** False when the call was given up, and the child with it, before there was one. */
  isWanted(): boolean;
}

/** Starts the children of a run, and makes sure that the ends it waits for reach it. */
export class ChildStarts {
  private toLookFor: { runId: string; looked: () => void }[] = [];

  constructor(
    private readonly execution: RunExecution,
    private readonly writes: WriteBuffer,
  ) {}

  /** Adds the child's row to the next write. Calls of one ref that are made at the same time share the start. */
  start(link: ChildLink, newRun: NewRun, on: ChildStartListener): void {
    if (link.starting) return void link.starting.add(on);
    link.starting = new Set<ChildStartListener>().add(on);
    link.wakesUs = newRun.parent!.awaited;
    const child = { ...newRun, id: link.id };
    if (newRun.version === UNRESOLVED_VERSION) void this.addOfNewestVersion(link, child);
    else this.add(link, child);
  }

  /** Makes sure that the end of that run wakes this one, and looks whether it has ended already. */
  awaitEnd(link: ChildLink, onUnknown: () => void): void {
    if (link.end) return;
    if (link.wakesUs) return this.lookSoon(link.id);
    link.wakesUs = true;
    // Not after the check: by then the run may be parked, and a parked run cannot write.
    this.writes.addEffects((effects) => (link.isChild ? effects.awaits : effects.watches).push(link.id));
    // Nor does it park in between: that run may have ended before this is committed, and then nothing would wake this one.
    void this.execution.lookUp(async () => {
      await this.writes.whenDurable();
      this.lookSoon(link.id);
    });
    if (!link.isChild) this.execution.host.checkExists(link.id, onUnknown);
  }

  /** Looking the version up is work of the run like that of a step body: a parked run could not write the child. */
  private async addOfNewestVersion(link: ChildLink, newRun: NewRun): Promise<void> {
    this.execution.bodyActive(1);
    try {
      const version = await this.versionOf(newRun.workflow);
      if (!this.execution.isLive) return;
      if ([...link.starting!].some((on) => on.isWanted())) this.add(link, { ...newRun, version });
      else for (const on of started(link)) on.cancelled();
    } catch (error) {
      for (const on of started(link)) on.refused(error);
    } finally {
      this.execution.bodyActive(-1);
    }
  }

  /** Asked again while the database is away: only that there is no such workflow is an answer. */
  private async versionOf(workflow: string): Promise<number> {
    for (;;) {
      try {
        return await this.execution.host.resolveVersion(workflow);
      } catch (error) {
        if (error instanceof WorkflowNotRegisteredError || !this.execution.isLive) throw error;
        await delay(LOOK_UP_PAUSE_MS);
      }
    }
  }

  private add(link: ChildLink, newRun: NewRun): void {
    this.execution.observed?.startsChild(newRun);
    this.writes.addChild(newRun);
    this.writes.onCommitted((result) => {
      if (result.lost) return;
      link.isDurable = !result.refusedChildren.has(newRun.id);
      for (const on of started(link)) {
        if (link.isDurable) on.durable();
        else on.cancelled();
      }
    });
  }

  /** One look for all that a turn asks for: after a replay the code may wait for thousands. */
  lookSoon(runId: string, looked: () => void = () => {}): void {
    if (this.toLookFor.push({ runId, looked }) > 1) return;
    void this.execution.lookUp(async () => {
      await turn();
      const asked = this.toLookFor;
      this.toLookFor = [];
      await this.execution.children.look(asked.map((one) => one.runId));
      for (const one of asked) one.looked();
    });
  }
}

/** Those whom the child's start concerns, once that is decided. */
function started(link: ChildLink): Iterable<ChildStartListener> {
  const listeners = link.starting ?? [];
  link.starting = undefined;
  return listeners;
}
