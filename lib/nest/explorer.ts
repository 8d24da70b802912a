import type { DiscoveryService } from '@nestjs/core';
import {
  definitionId,
  type WorkflowDefinition,
  type WorkflowHandler,
  type WorkflowOptions,
  workflowProblems,
} from '../engine/definition.js';
import { parseDuration } from '../engine/duration.js';
import { WorkflowRegistry } from '../engine/registry.js';
import { declaredId } from '../engine/schedules.js';
import { stepProblemsOf, transactionalStepsOf, workflowOptionsOf } from './decorators.js';
import { explainedStepsOf, flowCode, flowProblemsOf, isFlow } from './flows.js';
import { engineNameOf } from './tokens.js';

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
  /** Those steps with `transactional: true` that runs of this engine call for sure. */
  transactionalSteps: string[];
  problems: string[];
}

/** Finds the workflow classes of an engine wherever they are provided, and checks every definition. */
export function explore(discovery: DiscoveryService, engine: string | undefined): Exploration {
  const all = discovery.getProviders();
  const assignments = all.flatMap(({ instance }) => (instance instanceof FeatureAssignment ? [instance] : []));
  const known = all.flatMap(({ token }) => engineNameOf(token) ?? []);
  const problems = [...engineProblems(known), ...assignments.flatMap(featureProblems)];
  const definitions: WorkflowDefinition[] = [];
  const transactionalSteps: string[] = [];
  for (const [target, provider] of uniqueByClass(all)) {
    problems.push(...stepProblemsOf(target), ...flowProblemsOf(target, provider.instance));
    const options = workflowOptionsOf(target);
    // With several engines nobody knows whose runs call a step of a provider that is no workflow; the call itself will tell.
    if (!options && known.length === 1) transactionalSteps.push(...transactionalStepsOf(target));
    if (!options) continue;
    const engines = enginesOf(target, options, assignments);
    const unknown = engines.filter((name) => !known.includes(name ?? ''));
    problems.push(...unknown.map((name) => `${target.name}: there is no OrchestrationModule ${named(name)}`));
    if (!engines.includes(engine)) continue;
    transactionalSteps.push(...transactionalStepsOf(target));
    const own = [...workflowProblems(options), ...classProblems(provider)];
    problems.push(...own.map((problem) => `${target.name}: ${problem}`));
    if (own.length === 0) definitions.push(toDefinition(target, provider));
  }
  return {
    definitions,
    transactionalSteps,
    problems: [...problems, ...duplicates(definitions), ...duplicateSchedules(definitions)],
  };
}

/** The engines that run a workflow: those that it or a feature names, else the one without a name. */
function enginesOf(
  target: ProviderClass,
  { orchestration }: WorkflowOptions,
  assignments: FeatureAssignment[],
): (string | undefined)[] {
  const assigned = assignments.filter(({ classes }) => classes.includes(target)).map(({ engine }) => engine);
  return orchestration !== undefined || assigned.length === 0 ? [...assigned, orchestration] : assigned;
}

function uniqueByClass(providers: Provider[]): Map<ProviderClass, Provider> {
  const unique = new Map<ProviderClass, Provider>();
  for (const provider of providers) {
    const target = classOf(provider);
    if (target && !unique.has(target)) unique.set(target, provider);
  }
  return unique;
}

/**
 * A workflow class that is provided by other means (overridden in a test, made by a factory) stays that workflow. Else a
 * provider that is a value or comes from a factory has the class of what it gives.
 */
function classOf(provider: Provider): ProviderClass | undefined {
  if (typeof provider.token === 'function' && workflowOptionsOf(provider.token)) return provider.token as ProviderClass;
  if (!provider.isNotMetatype) return provider.metatype as ProviderClass;
  const instance = provider.instance as unknown;
  return typeof instance === 'object' && instance !== null
    ? (instance.constructor as ProviderClass | undefined)
    : undefined;
}

function engineProblems(names: string[]): string[] {
  const twice = new Set(names.filter((name, index) => names.indexOf(name) !== index));
  return [...twice].map(
    (name) =>
      `forRoot: two OrchestrationModules are ${named(name || undefined)}; import it once, or give one of them another name`,
  );
}

function named(engine: string | undefined): string {
  return engine === undefined ? 'without a name' : `with the name '${engine}'`;
}

function featureProblems({ classes }: FeatureAssignment): string[] {
  return classes
    .filter((target) => !workflowOptionsOf(target as object))
    .map(
      (target) =>
        `forFeature: ${(target as ProviderClass).name} has no @Workflow(); provide what is no workflow in the module itself`,
    );
}

function classProblems(provider: Provider): string[] {
  const problems: string[] = [];
  if (provider.isTransient)
    problems.push('a workflow class must not be transient: the engine needs the one instance of it');
  if (!provider.isDependencyTreeStatic())
    problems.push('a workflow class (or what it injects) must not be request-scoped: a run outlives every request');
  return problems;
}

function toDefinition(target: ProviderClass, provider: Provider): WorkflowDefinition {
  const {
    name = defaultName(target.name),
    version = 1,
    queue = 'default',
    timeout,
    cancelTimeout = DEFAULT_CANCEL_TIMEOUT,
    retention,
    schedules = [],
  } = workflowOptionsOf(target)!;
  return {
    name,
    version,
    queue,
    timeoutMs: timeout === undefined ? undefined : parseDuration(timeout),
    cancelTimeoutMs: parseDuration(cancelTimeout),
    retentionMs: retention === undefined ? undefined : parseDuration(retention),
    schedules,
    target,
    isFlow: isFlow(target),
    steps: explainedStepsOf(target),
    run: isFlow(target)
      ? flowCode(target, () => provider.instance as object)
      : (input) => (provider.instance as WorkflowHandler).run(input),
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
  return [...byId]
    .filter(([, names]) => names.length > 1)
    .map(([id, names]) => `${names.join(' and ')} are both ${id}: give one another name or version`);
}

function duplicateSchedules(definitions: WorkflowDefinition[]): string[] {
  const registry = new WorkflowRegistry();
  for (const definition of definitions) registry.add(definition);
  const ids = registry
    .newest()
    .flatMap(({ name, schedules }) => schedules.map((schedule) => declaredId(name, schedule)));
  const twice = new Set(ids.filter((id, index) => ids.indexOf(id) !== index));
  return [...twice].map(
    (id) =>
      `two schedules have the id '${id}' (the workflow's name, unless they have one of their own): give one another id`,
  );
}
