import type { Frame } from '../engine/branch.js';
import { frameFor } from '../engine/current-run.js';
import { decide } from '../engine/decision.js';
import { FlowError } from '../engine/errors.js';
import { nearMiss } from '../engine/near-miss.js';
import { copyOf } from '../engine/serialization.js';
import { all, allSettled, type Branches, type SettledBranch } from '../engine/structure.js';
import { jumpOf } from './go-to.js';
import type { FlowStep, Stage } from './stages.js';

type Group = Extract<Stage, { kind: 'group' }>;
type StepMethods = Record<string, (data: unknown) => unknown>;

/**
 * Runs the steps of a flow on the instance of its class. What runs is ordinary code of a workflow: steps, decisions and branches
 * that are recorded and replayed as those of a `run` method are.
 */
export function runFlow(stages: readonly Stage[], instance: object, input: unknown): Promise<unknown> {
  return new FlowRun(frameFor('A flow'), stages, instance as StepMethods).run(input);
}

class FlowRun {
  constructor(
    private readonly frame: Frame,
    private readonly stages: readonly Stage[],
    private readonly methods: StepMethods,
  ) {}

  async run(input: unknown): Promise<unknown> {
    let data = input;
    let at = 0;
    while (at < this.stages.length) {
      const stage = this.stages[at]!;
      if (stage.kind === 'group') {
        data = await this.runGroup(stage, data);
        at++;
      } else {
        const result = await this.runStep(stage.step, data);
        const jump = jumpOf(result);
        const next = jump ? jump.data : result;
        at = jump ? this.landingOf(jump.target, at) : at + 1;
        if (next !== undefined) data = next;
      }
    }
    return data;
  }

  private async runStep(step: FlowStep, data: unknown): Promise<unknown> {
    return (await this.isChosen(step, data)) ? await this.call(step, data) : undefined;
  }

  /** Who takes part is decided before anybody begins. */
  private async runGroup({ name, onError, steps }: Group, data: unknown): Promise<object> {
    const chosen: FlowStep[] = [];
    for (const step of steps) if (await this.isChosen(step, data)) chosen.push(step);
    const branches = Object.fromEntries(chosen.map((step) => [step.name, () => this.callInGroup(step, data)]));
    const results = onError === 'complete_all' ? await this.settle(branches) : await all(this.frame, branches);
    return { ...(data as object), [name]: results };
  }

  /** How each step ended. A jump that is refused is no result of its step: the flow is wrong. */
  private async settle(branches: Branches): Promise<Record<string, SettledBranch<unknown>>> {
    const results = await allSettled(this.frame, branches);
    for (const result of Object.values(results))
      if (result.status === 'rejected' && result.error instanceof FlowError) throw result.error;
    return results;
  }

  private async isChosen({ name, when }: FlowStep, data: unknown): Promise<boolean> {
    return !when || (await decide(this.frame, name, () => this.ask(name, when, data)));
  }

  private ask(step: string, when: (data: unknown) => unknown, data: unknown): boolean {
    let answer: unknown;
    try {
      answer = when(this.copyFor(step, data));
    } catch (cause) {
      throw this.error(step, `cannot be decided on: its when threw ${String(cause)}`, { cause });
    }
    if (typeof (answer as { then?: unknown } | null)?.then === 'function')
      throw this.error(
        step,
        'has a when that is async. It must answer at once: ask in a step before, and pass the answer on.',
      );
    return Boolean(answer);
  }

  private async call({ name, method }: FlowStep, data: unknown): Promise<unknown> {
    return await this.methods[method]!(this.copyFor(name, data));
  }

  private async callInGroup(step: FlowStep, data: unknown): Promise<unknown> {
    const result = await this.call(step, data);
    const jump = jumpOf(result);
    if (!jump) return result;
    throw this.error(
      step.name,
      `returned goTo('${jump.target}') inside the group '${step.parallel}', whose other steps run beside it. Jump in the step after the group.`,
    );
  }

  /** Each step has its own: what a body changes in it would reach later steps live, and not in a replay, which runs no bodies. */
  private copyFor(step: string, data: unknown): unknown {
    return copyOf(data, `the data for step '${step}'`);
  }

  /** Where a jump leads: forward, to a step by itself or to a whole group by its first step. */
  private landingOf(target: string, at: number): number {
    const refuse = (problem: string) =>
      this.error(namesOf(this.stages[at]!)[0]!, `returned goTo('${target}'): ${problem}`);
    const landing = this.stages.findIndex((stage) => namesOf(stage).includes(target));
    if (landing < 0) {
      const nearest = nearMiss(target, this.stages.flatMap(namesOf));
      throw refuse(`there is no such step.${nearest === undefined ? '' : ` Did you mean '${nearest}'?`}`);
    }
    if (landing === at) throw refuse('that is the step itself. A jump leads to a later step.');
    if (landing < at) throw refuse('that step comes before it. A jump leads to a later step.');
    const stage = this.stages[landing]!;
    if (stage.kind === 'group' && stage.steps[0]!.name !== target)
      throw refuse(
        `that step is inside the group '${stage.name}'. A jump leads to the whole group, by its first step '${stage.steps[0]!.name}'.`,
      );
    return landing;
  }

  private error(step: string, problem: string, options?: { cause: unknown }): FlowError {
    return new FlowError(this.frame.execution.run.workflow, step, problem, options);
  }
}

function namesOf(stage: Stage): string[] {
  return stage.kind === 'step' ? [stage.step.name] : stage.steps.map(({ name }) => name);
}
