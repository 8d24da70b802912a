import { validate as isRunId } from 'uuid';
import type { OnError, WorkflowDefinition, WorkflowReference } from './definition.js';
import type { Engine } from './engine.js';
import { RunNotFoundError } from './errors.js';
import { drawRun, drawWorkflow } from './mermaid.js';
import type { HistoryEntry, RunStatus, RunSummary, WaitingFor } from './run.js';
import type { Store } from './store.js';

/** A shape, as data and as the text of a Mermaid flowchart. */
export interface Explanation<Tree = ExplainedWorkflow | ExplainedRun> {
  tree: Tree;
  mermaid: string;
}

/** A workflow as it is defined. */
export interface ExplainedWorkflow {
  kind: 'workflow';
  workflow: string;
  version: number;
  /** Whether it is a flow: its steps run in this order. Else they are those that the class declares, and `run` is code. */
  isFlow: boolean;
  steps: readonly (ExplainedStep | ExplainedGroup)[];
}

export interface ExplainedStep {
  kind: 'step';
  name: string;
  /** Whether a `when` decides if it runs. */
  isConditional: boolean;
}

/** Neighbours that run side by side. */
export interface ExplainedGroup {
  kind: 'group';
  name: string;
  onError: OnError;
  steps: readonly ExplainedStep[];
}

/** A run: what it did so far, and what it waits for now. */
export interface ExplainedRun {
  kind: 'run';
  id: string;
  workflow: string;
  version: number;
  ref: string | undefined;
  status: RunStatus;
  startedAt: Date | undefined;
  finishedAt: Date | undefined;
  /** From its start to its end, waits included; undefined while it is active. */
  durationMs: number | undefined;
  waitingFor: WaitingFor[];
  /** In the order in which its code received the outcomes. */
  entries: ExplainedEntry[];
  /** The runs that it started, newest first. */
  children: ExplainedRun[];
  /** Whether entries or children were left out, because there are too many or they lie too deep. */
  isCut: boolean;
}

/** An outcome of a run, without its payload. */
export interface ExplainedEntry extends Pick<
  HistoryEntry,
  'kind' | 'name' | 'key' | 'status' | 'attempts' | 'startedAt' | 'finishedAt' | 'childId'
> {
  /** From the moment when the code asked for it, waits and retries included. */
  durationMs: number;
  /** Of a decision: whether the step runs. */
  answer: boolean | undefined;
}

/** What an explanation of a run shows at most: a diagram with more is read by nobody, and drawn by no browser. */
const LIMITS = { depth: 4, runs: 20, entries: 80, entriesOfDescendants: 15 };

/** The shape of a workflow of this process, or of a run. Throws {@link RunNotFoundError} and {@link WorkflowNotRegisteredError}. */
export async function explain({ store, registry }: Engine, subject: WorkflowReference): Promise<Explanation> {
  if (typeof subject === 'string' && isRunId(subject)) {
    const tree = await new RunReader(store).read(subject);
    return { tree, mermaid: drawRun(tree) };
  }
  const definition = registry.find(subject);
  if (!definition) throw registry.notRegistered(subject);
  const tree = explainWorkflow(definition);
  return { tree, mermaid: drawWorkflow(tree) };
}

function explainWorkflow({ name, version, isFlow, steps }: WorkflowDefinition): ExplainedWorkflow {
  return { kind: 'workflow', workflow: name, version, isFlow, steps };
}

/** Reads a run and, level by level, its descendants, until there are enough. */
class RunReader {
  private left = LIMITS.runs;

  constructor(private readonly store: Store) {}

  async read(runId: string): Promise<ExplainedRun> {
    const run = await this.store.runs.get(runId);
    if (!run) throw new RunNotFoundError(runId);
    this.left--;
    const root = await this.explained(run, LIMITS.entries);
    let level = [root];
    for (let depth = 1; depth <= LIMITS.depth && level.length > 0; depth++)
      level = await this.readChildren(level, depth);
    return root;
  }

  /** The children of a level, which are the next one. */
  private async readChildren(parents: readonly ExplainedRun[], depth: number): Promise<ExplainedRun[]> {
    const level: ExplainedRun[] = [];
    for (const parent of parents) {
      const limit = depth < LIMITS.depth ? this.left : 0;
      const { items, nextCursor } = await this.store.runs.list({ parentId: parent.id, limit: Math.max(limit, 1) });
      const taken = items.slice(0, limit);
      this.left -= taken.length;
      parent.isCut ||= nextCursor !== undefined || taken.length < items.length;
      for (const child of taken) parent.children.push(await this.explained(child, LIMITS.entriesOfDescendants));
      level.push(...parent.children);
    }
    return level;
  }

  private async explained(run: RunSummary, limit: number): Promise<ExplainedRun> {
    const { id, workflow, version, ref, status, startedAt, finishedAt, waitingFor } = run;
    const entries = await this.store.runs.outline(id, limit + 1);
    return {
      ...{ kind: 'run', id, workflow, version, ref, status, startedAt, finishedAt, waitingFor },
      durationMs: startedAt && finishedAt && finishedAt.getTime() - startedAt.getTime(),
      entries: entries.slice(0, limit),
      children: [],
      isCut: entries.length > limit,
    };
  }
}
