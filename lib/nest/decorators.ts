import 'reflect-metadata';
import { Inject, Injectable, type InjectableOptions } from '@nestjs/common';
import { SCOPE_OPTIONS_METADATA } from '@nestjs/common/constants.js';
import { MetadataScanner } from '@nestjs/core';
import { currentFrame, type Frame } from '../engine/branch.js';
import {
  DECLARED_STEP_OPTIONS,
  type FlowStepOptions,
  type StepOptions,
  stepProblems,
  type WorkflowOptions,
} from '../engine/definition.js';
import { DefinitionError } from '../engine/errors.js';
import { nearMiss } from '../engine/near-miss.js';
import type { StepCompensation, StepPlan } from '../engine/step-execution.js';
import { callStep, planStep, StepCall } from '../engine/steps.js';
import { orchestratorToken } from '../engine/orchestrator-token.js';

const WORKFLOW = Symbol('orchestration:workflow');
const STEPS = Symbol('orchestration:steps');

export type StepBody = (...args: unknown[]) => unknown;

/** Of each step method as it is after its decoration. */
const declarations = new WeakMap<StepBody, StepDeclaration>();

/** A step method as its decorator describes it. */
export interface StepDeclaration {
  method: string;
  options: StepOptions & FlowStepOptions;
  body: StepBody;
  /** What stands in the place of the method: the call that is recorded. Metadata of the method is its. */
  step: StepBody;
  /** The body with guards, pipes, interceptors and filters around it, for the instances of whose class it has any. */
  enhanced?: WeakMap<object, StepBody>;
}

/**
 * Makes a provider class a workflow: its `run` is the code of its runs. A class without `run` is a flow: its steps run in the
 * order in which they are written.
 *
 * @example `@Workflow('order')`, `@Workflow({ name: 'order', version: 2, timeout: '2d' })`
 */
export function Workflow(nameOrOptions: string | WorkflowOptions = {}): ClassDecorator {
  const options = typeof nameOrOptions === 'string' ? { name: nameOrOptions } : nameOrOptions;
  return (target) => {
    Reflect.defineMetadata(WORKFLOW, options, target);
    // What an @Injectable below has said of its scope stays, so that the boot can refuse it.
    Injectable(Reflect.getOwnMetadata(SCOPE_OPTIONS_METADATA, target) as InjectableOptions | undefined)(target);
  };
}

/**
 * Makes a method of any provider a step: called inside a run it is recorded, retried and replayed; called outside one it
 * is a plain method. Inside a run it throws StepFailedError when its attempts are used up.
 *
 * On a static method it throws DefinitionError as the class is loaded: only instances are providers.
 */
export function Step(options: StepOptions & FlowStepOptions = {}): MethodDecorator {
  return (prototype, property, descriptor: PropertyDescriptor) => {
    const method = String(property);
    if (typeof prototype === 'function')
      throw new DefinitionError([
        `@Step() stands on the static method ${prototype.name}.${method}. Make it a method of the instance, which Nest provides.`,
      ]);
    const body = descriptor.value as StepBody;
    const declared = (Reflect.getOwnMetadata(STEPS, prototype.constructor) ?? []) as StepDeclaration[];
    const declaration: StepDeclaration = { method, options, body, step: body };
    declaration.step = recorded(declaration);
    Reflect.defineMetadata(STEPS, [...declared, declaration], prototype.constructor);
    descriptor.value = declaration.step;
  };
}

/** Injects the Orchestrator of a module with a name. */
export function InjectOrchestrator(name?: string): ParameterDecorator & PropertyDecorator {
  return Inject(orchestratorToken(name));
}

/** What `@Workflow` says of this class itself, not of one it extends. */
export function workflowOptionsOf(target: object): WorkflowOptions | undefined {
  return Reflect.getOwnMetadata(WORKFLOW, target) as WorkflowOptions | undefined;
}

/**
 * The steps of a class and of those it extends, in the order in which they are written: inherited ones first. A method that is
 * overridden counts once, in its first place.
 */
export function stepsOf(target: object): StepDeclaration[] {
  const steps = new Map<string, StepDeclaration>();
  for (const type of lineageOf(target)) for (const step of declaredIn(type)) steps.set(step.method, step);
  return [...steps.values()];
}

/** Steps that the class, or one that it extends, overrides by a method that is none. */
export function unmarkedOverrides(target: object): string[] {
  const lineage = lineageOf(target);
  return stepsOf(target)
    .map(({ method }) => method)
    .filter((method) => {
      const last = lineage.findLast((type) => Object.hasOwn((type as { prototype?: object }).prototype ?? {}, method))!;
      return !declaredIn(last).some((step) => step.method === method);
    });
}

/** The class and those it extends, the topmost first. */
function lineageOf(target: object): object[] {
  const lineage: object[] = [];
  for (let type: object | null = target; type; type = Object.getPrototypeOf(type) as object | null)
    lineage.unshift(type);
  return lineage;
}

function declaredIn(type: object): StepDeclaration[] {
  return (Reflect.getOwnMetadata(STEPS, type) ?? []) as StepDeclaration[];
}

function recorded(declaration: StepDeclaration): StepBody {
  const { method, options, body } = declaration;
  let plan: StepPlan | undefined;
  const step = function (this: object, ...args: unknown[]): unknown {
    const frame = currentFrame();
    if (!frame) return body.apply(this, args);
    plan ??= planStep(options);
    const name = options.name ?? defaultName(frame, this, method);
    const compensation = options.compensate === undefined ? undefined : compensationOf(this, options.compensate, args);
    return callStep(
      frame,
      new StepCall(name, args, plan, () => bodyOf(declaration, this).apply(this, args), compensation),
    );
  };
  declarations.set(step, declaration);
  for (const key of Reflect.getMetadataKeys(body)) Reflect.defineMetadata(key, Reflect.getMetadata(key, body), step);
  Object.defineProperty(step, 'name', { value: method });
  return step;
}

/** The method that undoes a step: with the options that it has as a step itself, but not recorded as one. */
function compensationOf(provider: object, name: string, args: unknown[]): StepCompensation {
  const method = (provider as Record<string, StepBody>)[name]!;
  const declaration = declarations.get(method);
  const body = declaration ? bodyOf(declaration, provider) : method;
  return { plan: planStep(declaration?.options ?? {}), body: (output) => body.apply(provider, [output, ...args]) };
}

/** With the guards, pipes, interceptors and filters that it has on that provider. */
function bodyOf({ enhanced, body }: StepDeclaration, provider: object): StepBody {
  return enhanced?.get(provider) ?? body;
}

/** The method's name on the workflow class itself, `ClassName.method` elsewhere. */
function defaultName({ execution }: Frame, provider: object, method: string): string {
  return provider instanceof execution.definition.target ? method : `${provider.constructor.name}.${method}`;
}

/** What is wrong with the steps of a class. */
export function stepProblemsOf(target: { name: string; prototype: object }): string[] {
  const steps = stepsOf(target);
  const names = steps.map(({ method, options }) => options.name ?? method);
  const twice = new Set(names.filter((name, index) => names.indexOf(name) !== index));
  return [
    ...[...twice].map((name) => `${target.name}: the step name '${name}' is used twice`),
    ...steps.flatMap(({ method, options }) =>
      [...stepProblems(options, DECLARED_STEP_OPTIONS), ...compensationProblems(target.prototype, options)].map(
        (problem) => `${target.name}.${method}: ${problem}`,
      ),
    ),
  ];
}

/** `OrderWorkflow.reserve` of each step of a class whose body runs in a transaction. */
export function transactionalStepsOf(target: { name: string }): string[] {
  return stepsOf(target).flatMap(({ method, options }) => (options.transactional ? [`${target.name}.${method}`] : []));
}

function compensationProblems(prototype: object, { compensate }: StepOptions): string[] {
  if (typeof compensate !== 'string' || compensate === '') return [];
  const methods = new MetadataScanner().getAllMethodNames(prototype);
  if (methods.includes(compensate)) return [];
  const nearest = nearMiss(compensate, methods);
  const hint = nearest === undefined ? '' : `; did you mean '${nearest}'?`;
  return [`there is no method '${compensate}' to compensate with${hint}`];
}
