import type { FlowStepOptions, OnError } from '../engine/definition.js';

/** A step of a flow, as it is declared. */
export interface FlowStep extends FlowStepOptions {
  name: string;
  method: string;
}

/** A part of a flow: a step by itself, or a group of neighbours that run side by side. */
export type Stage =
  { kind: 'step'; step: FlowStep } | { kind: 'group'; name: string; onError: OnError; steps: FlowStep[] };

/** The parts of a flow in their order. */
export function toStages(steps: readonly FlowStep[]): Stage[] {
  const stages: Stage[] = [];
  for (const step of steps) {
    const last = stages.at(-1);
    if (step.parallel === undefined) {
      stages.push({ kind: 'step', step });
    } else if (last?.kind === 'group' && last.name === step.parallel) {
      last.steps.push(step);
    } else {
      stages.push({ kind: 'group', name: step.parallel, onError: 'fail_fast', steps: [step] });
    }
  }
  for (const stage of stages)
    if (stage.kind === 'group') stage.onError = stage.steps.find(({ onError }) => onError)?.onError ?? 'fail_fast';
  return stages;
}

const ON_ERROR: readonly unknown[] = ['fail_fast', 'complete_all'] satisfies OnError[];

/** What is wrong with the steps of a flow, for the report at boot. */
export function flowProblems(flow: string, steps: readonly FlowStep[]): string[] {
  if (steps.length === 0) return [`${flow}: it has neither a run method nor a @Step()`];
  return [...steps.flatMap((step) => stepProblems(flow, step)), ...groupProblems(flow, toStages(steps))];
}

function stepProblems(flow: string, { method, parallel, onError, when }: FlowStep): string[] {
  const problems: string[] = [];
  if (parallel !== undefined && (typeof parallel !== 'string' || parallel === ''))
    problems.push('parallel must be a text that is not empty');
  if (onError !== undefined && !ON_ERROR.includes(onError))
    problems.push(`onError must be one of ${ON_ERROR.join(', ')}, not ${JSON.stringify(onError)}`);
  if (onError !== undefined && parallel === undefined)
    problems.push('onError is for the steps of a parallel group; give it a group, or leave it out');
  if (when !== undefined && typeof when !== 'function') problems.push('when must be a function');
  return problems.map((problem) => `${flow}.${method}: ${problem}`);
}

function groupProblems(flow: string, stages: readonly Stage[]): string[] {
  const problems: string[] = [];
  const seen = new Set<string>();
  for (const stage of stages) {
    if (stage.kind !== 'group') continue;
    const { name, steps } = stage;
    if (seen.has(name))
      problems.push(
        `${flow}.${steps[0]!.method}: the group '${name}' is used again after other steps; only neighbours are a group`,
      );
    seen.add(name);
    const choices = [...new Set(steps.flatMap(({ onError }) => onError ?? []))];
    if (choices.length > 1)
      problems.push(`${flow}: the group '${name}' has two values of onError: ${choices.join(' and ')}`);
  }
  return problems;
}

/** What is wrong with the steps of a class that is no flow. */
export function nonFlowProblems(target: string, steps: readonly FlowStep[]): string[] {
  return steps.flatMap((step) =>
    (['parallel', 'onError', 'when'] as const)
      .filter((option) => step[option] !== undefined)
      .map((option) => `${target}.${step.method}: ${option} is for the steps of a flow, a workflow class without run`),
  );
}
