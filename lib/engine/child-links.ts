import { ChildRefConflictError } from './errors.js';
import type { NewRun } from './new-run.js';
import type { RecordedOutcome, RecordedRun } from './recorded-run.js';
import type { RunEnd } from './store.js';
import type { RunStatus } from './run.js';
import type { ChildStartListener } from './child-starts.js';
import type { RunExecution } from './run-execution.js';

/** How many ends one statement looks for. */
const LARGEST_LOOK = 1_000;

/** Another run as this one knows it: a child, or a run that it awaits. */
export interface ChildLink {
  id: string;
  /** The name its parent gave it; the id for a run that is no child. */
  ref: string;
  workflow: string;
  inputDigest: string;
  scope: string;
  isChild: boolean;
  closesWithParent: boolean;
  /** Whether a cancellation of this run reaches it. */
  cascades: boolean;
  /** Its row is committed. */
  isDurable: boolean;
  status: RunStatus;
  end: RunEnd | undefined;
  /** The code of this pass has asked for it. */
  isAsked: boolean;
  /** Started by an earlier generation of this run, or by the run that this is a fork of: the code need not ask for it. */
  carriedOver: boolean;
  /** Its end wakes this run. */
  wakesUs: boolean;
  /** Who waits for its row, while its start is under way. */
  starting: Set<ChildStartListener> | undefined;
}

/** How a child is asked for: what becomes its row when there is none yet. */
export interface ChildRequest {
  newRun: NewRun;
  ref: string;
  workflow: string;
  scope: string;
  /** The ref was given by the user: a call that differs is a conflict. */
  isExplicit: boolean;
}

/**
 * The children of a run by ref. A child's row is the parent's record of it, so asking again for a ref, in a replay or in
 * the code, gives the child that there is.
 */
export class ChildLinks {
  private readonly byRef = new Map<string, ChildLink>();
  private readonly byId = new Map<string, ChildLink>();
  private readonly listeners = new Map<string, Set<() => void>>();
  private closing = false;

  constructor(
    private readonly execution: RunExecution,
    recorded: RecordedRun | undefined,
  ) {
    for (const child of recorded?.children ?? []) {
      this.add({
        ...child,
        isChild: true,
        isDurable: true,
        end: undefined,
        isAsked: false,
        wakesUs: child.awaited,
        starting: undefined,
      });
    }
    for (const outcome of recorded?.outcomes ?? []) this.addShared(outcome);
  }

  /** A child that closes with this run has been started. */
  get mustClose(): boolean {
    return this.closing;
  }

  /** The child of that ref, for the code: one that only its history knows is not there yet. */
  get(ref: string): ChildLink | undefined {
    const link = this.byRef.get(ref);
    return link?.isAsked || link?.carriedOver ? link : undefined;
  }

  /** Whether no earlier call of the code, nor an earlier generation of the run, has asked for that ref. */
  isNew(ref: string): boolean {
    const link = this.byRef.get(ref);
    return !link || !(link.isAsked || (link.carriedOver && link.isChild));
  }

  getById(id: string): ChildLink | undefined {
    return this.byId.get(id);
  }

  /** A recorded child of the workflow's own code that this pass has not asked for. */
  findUnasked(): ChildLink | undefined {
    for (const link of this.byRef.values()) if (isMissing(link) && link.scope === '') return link;
    return undefined;
  }

  /** Whether there is a child that this pass has not come to, and that its code would ask for again. */
  hasUnreached(): boolean {
    return [...this.byRef.values()].some((link) => isMissing(link) && !this.execution.history.hasEnded(link.scope));
  }

  /** Whether a child was started in a scope that begins so. */
  hasAnyIn(scopes: string): boolean {
    return [...this.byRef.values()].some(({ scope }) => scope.startsWith(scopes));
  }

  /** The child of that ref, as there is one or as it will be started. Throws {@link ChildRefConflictError}. */
  ask(request: ChildRequest): ChildLink {
    const known = this.byRef.get(request.ref);
    if (known?.workflow === '') {
      known.workflow = request.workflow;
      known.inputDigest = request.newRun.inputDigest;
    }
    if (known && !this.isReplacedByRetry(known, request)) {
      const difference = this.differenceOf(known, request);
      if (difference && !isMissing(known) && request.isExplicit)
        throw new ChildRefConflictError(known.ref, known.id, difference.expected, difference.found);
      if (difference && isMissing(known) && request.scope === '')
        this.execution.diverge(
          `the start of child '${known.ref}' (${difference.expected})`,
          `asked for ${difference.found}`,
        );
      known.isAsked = true;
      return known;
    }
    const { newRun } = request;
    const link: ChildLink = {
      id: newRun.id,
      ref: request.ref,
      workflow: request.workflow,
      inputDigest: newRun.inputDigest,
      scope: request.scope,
      isChild: true,
      closesWithParent: newRun.parent!.closesWithParent,
      cascades: newRun.parent!.cascades,
      isDurable: false,
      status: 'pending',
      end: undefined,
      isAsked: true,
      carriedOver: false,
      wakesUs: false,
      starting: undefined,
    };
    if (known) this.execution.supersede(known.id);
    this.add(link);
    return link;
  }

  /** A run that is not a child of this one. */
  addStranger(id: string): ChildLink {
    const known = this.byId.get(id);
    if (known) return known;
    const link = stranger(id);
    this.byId.set(id, link);
    return link;
  }

  /** The child of a run that this one is a fork of: the shared history knows it by its ref and its id. */
  private addShared({ scope, name, childId }: RecordedOutcome): void {
    if (childId === null || scope !== '' || name === childId || this.byId.has(childId) || this.byRef.has(name)) return;
    this.add({ ...stranger(childId), ref: name, isAsked: false, carriedOver: true });
  }

  /** Calls back when the run has ended, which may be at once. */
  onEnd(link: ChildLink, listener: () => void): () => void {
    if (link.end) {
      listener();
      return () => {};
    }
    const listeners = this.listeners.get(link.id) ?? new Set();
    this.listeners.set(link.id, listeners.add(listener));
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0) this.listeners.delete(link.id);
    };
  }

  /** Ids of the runs whose end the code waits for. */
  awaited(): string[] {
    return [...this.listeners.keys()];
  }

  /** Looks which of these runs have ended. What was due before such an end comes before it. */
  async look(runIds: readonly string[]): Promise<void> {
    const { execution } = this;
    for (let from = 0; from < runIds.length; from += LARGEST_LOOK) {
      const ends = await execution.host.store.loadEnds(runIds.slice(from, from + LARGEST_LOOK));
      let wakeAt = execution.nextWakeAt();
      for (const end of ends) {
        if (wakeAt !== null && wakeAt <= end.endedAt! && execution.mayWrite) {
          execution.fireUntil(end.endedAt!);
          wakeAt = execution.nextWakeAt();
        }
        this.ended(end);
      }
    }
  }

  /** Looks once more for ends of which nobody may have told yet, and then does that. */
  lookBefore(then: () => void): void {
    void this.execution.lookUp(async () => {
      await this.look(this.awaited());
      then();
    });
  }

  get isAwaiting(): boolean {
    return this.listeners.size > 0;
  }

  /**
   * One that comes when the run's own time is over is too late: the run hears of that instead. An end that is told in this
   * process has no time of its own yet; if it was early enough, the look before the expiry finds it.
   */
  ended(end: RunEnd): void {
    const link = this.byId.get(end.id);
    if (!link || link.end || this.execution.isTooLateAt(end.endedAt)) return;
    link.end = end;
    link.status = end.status;
    const listeners = this.listeners.get(end.id);
    this.listeners.delete(end.id);
    for (const listener of listeners ?? []) listener();
  }

  /** What tells a call apart from the child that has its ref. Asked twice it is a mistake of the code; in a replay, of a deploy. */
  private differenceOf(
    known: ChildLink,
    { workflow, newRun }: ChildRequest,
  ): { expected: string; found: string } | undefined {
    if (known.workflow !== workflow)
      return { expected: `workflow '${known.workflow}'`, found: `workflow '${workflow}'` };
    if (!this.execution.serializer.isDigest(known.inputDigest, newRun.inputDigest))
      return { expected: `'${known.workflow}' with its recorded input`, found: 'it with a different input' };
    return undefined;
  }

  private add(link: ChildLink): void {
    this.byRef.set(link.ref, link);
    this.byId.set(link.id, link);
    this.closing ||= link.closesWithParent;
  }

  /** A retry of a step starts its failed children anew. */
  private isReplacedByRetry(known: ChildLink, request: ChildRequest): boolean {
    return (
      request.scope !== '' &&
      known.scope !== request.scope &&
      (known.status === 'failed' || known.status === 'cancelled')
    );
  }
}

/** The history has it, and this pass has not come to it. */
function isMissing({ isAsked, carriedOver }: ChildLink): boolean {
  return !isAsked && !carriedOver;
}

/** A run that was not started by this one; what it was started with is not known. */
function stranger(id: string): ChildLink {
  return {
    id,
    ref: id,
    workflow: '',
    inputDigest: '',
    scope: '',
    isChild: false,
    closesWithParent: false,
    cascades: false,
    isDurable: true,
    status: 'pending',
    end: undefined,
    isAsked: true,
    carriedOver: false,
    wakesUs: false,
    starting: undefined,
  };
}
