import type { ExplainedGroup, ExplainedStep } from '../engine/explain.js';
import { runFlow } from '../flow/run-flow.js';
import { flowProblems, type FlowStep, nonFlowProblems, type Stage, toStages } from '../flow/stages.js';
import { stepsOf, unmarkedOverrides, workflowOptionsOf } from './decorators.js';

type Target = object & { prototype: object; name: string };

/** A flow is a workflow class without `run`. */
export function isFlow(target: Target): boolean {
  return workflowOptionsOf(target) !== undefined && typeof (target.prototype as { run?: unknown }).run !== 'function';
}

/** The steps of a class with what only flows have. */
function flowStepsOf(target: Target): FlowStep[] {
  return stepsOf(target).map(({ method, options: { name = method, parallel, onError, when } }) => ({
    name,
    method,
    ...(parallel !== undefined && { parallel }),
    ...(onError !== undefined && { onError }),
    ...(when !== undefined && { when }),
  }));
}

/** What is wrong with a class as a flow, or with what only flows have on one that is none. */
export function flowProblemsOf(target: Target, instance: unknown): string[] {
  const steps = flowStepsOf(target);
  if (!isFlow(target)) return nonFlowProblems(target.name, steps);
  if (hasRunProperty(target, instance))
    return [`${target.name}: run must be a method, not a property: the engine looks for it on the class`];
  return [
    ...flowProblems(target.name, steps),
    ...unmarkedOverrides(target).map(
      (method) =>
        `${target.name}.${method}: it overrides a step of the flow and would not be recorded; give it @Step() as well`,
    ),
  ];
}

/** The steps that a class declares, as they are explained. */
export function explainedStepsOf(target: Target): (ExplainedStep | ExplainedGroup)[] {
  const steps = flowStepsOf(target);
  return isFlow(target) ? toStages(steps).map(explainStage) : steps.map(explainStep);
}

function explainStage(stage: Stage): ExplainedStep | ExplainedGroup {
  if (stage.kind === 'step') return explainStep(stage.step);
  return { kind: 'group', name: stage.name, onError: stage.onError, steps: stage.steps.map(explainStep) };
}

function explainStep({ name, when }: FlowStep): ExplainedStep {
  return { kind: 'step', name, isConditional: when !== undefined };
}

/** `run = async (input) => …`: the class alone looks like a flow. */
function hasRunProperty(target: Target, instance: unknown): boolean {
  return typeof instance === 'object' && instance !== null && 'run' in instance && instance.constructor === target;
}

/** The code of a flow: its steps, on the instance that there is when a run begins. */
export function flowCode(target: Target, instanceOf: () => object): (input: unknown) => Promise<unknown> {
  const stages = toStages(flowStepsOf(target));
  return (input) => runFlow(stages, instanceOf(), input);
}
