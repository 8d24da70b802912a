import { definitionId, type WorkflowDefinition, type WorkflowReference } from './definition.js';
import { ValidationError, WorkflowNotRegisteredError } from './errors.js';
import { nearMiss } from './near-miss.js';

/** The workflow definitions of this process, by class and by name and version. */
export class WorkflowRegistry {
  private readonly byId = new Map<string, WorkflowDefinition>();
  private readonly byClass = new Map<unknown, WorkflowDefinition>();
  private readonly newestByName = new Map<string, WorkflowDefinition>();

  add(definition: WorkflowDefinition): void {
    this.byId.set(definitionId(definition.name, definition.version), definition);
    this.byClass.set(definition.target, definition);
    const newest = this.newestByName.get(definition.name);
    if (!newest || newest.version < definition.version) this.newestByName.set(definition.name, definition);
  }

  has(workflow: string, version: number): boolean {
    return this.byId.has(definitionId(workflow, version));
  }

  get(workflow: string, version: number): WorkflowDefinition | undefined {
    return this.byId.get(definitionId(workflow, version));
  }

  /** The definition that a class, or the newest version that a name, stands for in this process. */
  find(workflow: WorkflowReference): WorkflowDefinition | undefined {
    return typeof workflow === 'string' ? this.newestByName.get(workflow) : this.byClass.get(workflow);
  }

  /** `order@1` of every definition. */
  ids(): string[] {
    return [...this.byId.keys()];
  }

  /** Of each workflow the highest version. */
  newest(): WorkflowDefinition[] {
    return [...this.newestByName.values()];
  }

  /** Every queue that a definition names. */
  queues(): string[] {
    return [...new Set([...this.byId.values()].map((definition) => definition.queue))];
  }

  /**
   * The error for a workflow that is not registered in this process, nor by a live worker if theirs are given, with the near miss
   * among them; or for what is none at all.
   */
  notRegistered(
    workflow: WorkflowReference,
    ofLiveWorkers?: readonly string[],
  ): WorkflowNotRegisteredError | ValidationError {
    if (typeof workflow !== 'function' && !(typeof workflow === 'string' && workflow !== ''))
      return noReference(workflow);
    const name = typeof workflow === 'string' ? workflow : workflow.name;
    const known = [...this.newestByName.keys(), ...(ofLiveWorkers ?? [])];
    return new WorkflowNotRegisteredError(name, nearMiss(name, known), ofLiveWorkers !== undefined);
  }
}

function noReference(value: unknown): ValidationError {
  const hint = value === undefined ? ' (an import that is undefined yet, of files that import each other?)' : '';
  const message = `it is given as its class or its name, not ${JSON.stringify(value) ?? String(value)}${hint}`;
  return new ValidationError('The workflow', [{ message, path: ['workflow'] }]);
}
