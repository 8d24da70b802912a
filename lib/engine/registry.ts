import { closest } from 'fastest-levenshtein';
import { definitionId, type WorkflowDefinition, type WorkflowReference } from './definition.js';
import { WorkflowNotRegisteredError } from './errors.js';

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

  /** The error for a workflow that nobody registers, with the near miss among these and the `others` that are known. */
  notRegistered(workflow: WorkflowReference, others: readonly string[] = []): WorkflowNotRegisteredError {
    const name = typeof workflow === 'string' ? workflow : workflow.name;
    const names = [...new Set([...this.newestByName.keys(), ...others])];
    return new WorkflowNotRegisteredError(name, names.length ? closest(name, names) : undefined);
  }
}
