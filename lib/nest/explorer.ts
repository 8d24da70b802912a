import type { DiscoveryService } from '@nestjs/core';
import { definitionId, type WorkflowClass, type WorkflowDefinition, type WorkflowHandler, workflowProblems } from '../engine/definition.js';
import { parseDuration } from '../engine/duration.js';
import { stepProblemsOf, stepsOf, workflowOptionsOf } from './decorators.js';

type Provider = ReturnType<DiscoveryService['getProviders']>[number];
type ProviderClass = (abstract new (...args: never[]) => object) & { name: string };

const DEFAULT_CANCEL_TIMEOUT = '1m';

/** Workflow classes that `forFeature([...], name)` assigns to an engine. */
export class FeatureAssignment {
  /** Of its own, so that several features of one app stand side by side. */
  readonly token = Symbol('orchestration:feature');

  constructor(
    readonly classes: readonly unknown[],
    readonly engine: string | undefined,
  ) {}
}

/** What the providers of the app define for one engine, and all that is wrong with it. */
export interface Exploration {
  definitions: WorkflowDefinition[];
  problems: string[];
}

/** Finds the workflow classes of an engine wherever they are provided, and checks every definition. */
export function explore(discovery: DiscoveryService, engine: string | undefined): Exploration {
  const providers = uniqueByClass(discovery.getProviders());
  const assignments = discovery.getProviders().flatMap(({ instance }) => (instance instanceof FeatureAssignment ? [instance] : []));
  const exploration: Exploration = { definitions: [], problems: [] };
  for (const [target, provider] of providers) {
    exploration.problems.push(...(stepsOf(target).length ? stepProblemsOf(target) : []));
    const options = workflowOptionsOf(target);
    if (!options) continue;
    const engines = assignments.filter(({ classes }) => classes.includes(target)).map((assignment) => assignment.engine);
    if (options.orchestration !== undefined || engines.length === 0) engines.push(options.orchestration);
    if (!engines.includes(engine)) continue;
    const problems = [...workflowProblems(options), ...classProblems(target, provider)];
    if (problems.length) exploration.problems.push(...problems.map((problem) => `${target.name}: ${problem}`));
    else exploration.definitions.push(toDefinition(target, provider));
  }
  exploration.problems.push(...duplicates(exploration.definitions));
  return exploration;
}

function uniqueByClass(providers: Provider[]): Map<ProviderClass, Provider> {
  const unique = new Map<ProviderClass, Provider>();
  for (const provider of providers) {
    const target = provider.metatype as ProviderClass | null;
    if (typeof target === 'function' && target.prototype && !unique.has(target)) unique.set(target, provider);
  }
  return unique;
}

function classProblems(target: ProviderClass, provider: Provider): string[] {
  const problems: string[] = [];
  if (!provider.isDependencyTreeStatic()) problems.push('a workflow class (or what it injects) must not be request-scoped: a run outlives every request');
  if (typeof (target.prototype as { run?: unknown }).run !== 'function') problems.push('it has no run method');
  return problems;
}

function toDefinition(target: ProviderClass, provider: Provider): WorkflowDefinition {
  const { name = defaultName(target.name), version = 1, queue = 'default', timeout, cancelTimeout = DEFAULT_CANCEL_TIMEOUT } = workflowOptionsOf(target)!;
  return {
    name,
    version,
    queue,
    timeoutMs: timeout === undefined ? undefined : parseDuration(timeout),
    cancelTimeoutMs: parseDuration(cancelTimeout),
    target: target as unknown as WorkflowClass,
    run: (input) => (provider.instance as WorkflowHandler).run(input),
  };
}

/** `OrderShippingWorkflow` → `order-shipping`. */
function defaultName(className: string): string {
  return className
    .replace(/Workflow$/, '')
    .replace(/([a-z0-9])([A-Z])/g, '$1-$2')
    .replace(/([A-Z]+)([A-Z][a-z])/g, '$1-$2')
    .toLowerCase();
}

function duplicates(definitions: WorkflowDefinition[]): string[] {
  const byId = new Map<string, string[]>();
  for (const { name, version, target } of definitions) {
    const id = definitionId(name, version);
    byId.set(id, [...(byId.get(id) ?? []), target.name]);
  }
  return [...byId].filter(([, names]) => names.length > 1).map(([id, names]) => `${names.join(' and ')} are both ${id}: give one another name or version`);
}
