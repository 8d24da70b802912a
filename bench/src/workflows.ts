import { ChildOrchestrator, defineSignal, RunContext, Step, Workflow } from 'nestjs-orchestration';

/** The smallest run: one step. */
@Workflow('one-step')
export class OneStepWorkflow {
  async run(value: number): Promise<number> {
    return this.work(value);
  }

  @Step()
  async work(value: number): Promise<number> {
    return value + 1;
  }
}

/** Ten steps, one after the other. */
@Workflow('ten-steps')
export class TenStepsWorkflow {
  async run(value: number): Promise<number> {
    let result = value;
    for (let step = 0; step < 10; step++) result = await this.work(result);
    return result;
  }

  @Step()
  async work(value: number): Promise<number> {
    return value + 1;
  }
}

/** A parent that calls a child of one step. */
@Workflow('parent')
export class ParentWorkflow {
  constructor(private readonly children: ChildOrchestrator) {}

  async run(value: number): Promise<number> {
    return this.children.call(OneStepWorkflow, value);
  }
}

export const GO = defineSignal<null>('go');

/** Waits until it is told to go. */
@Workflow('parked')
export class ParkedWorkflow {
  constructor(private readonly ctx: RunContext) {}

  async run(): Promise<void> {
    await this.ctx.waitForSignal(GO);
  }
}

/** The same as the smallest run, on a queue with limits. */
@Workflow({ name: 'limited', queue: 'limited' })
export class LimitedWorkflow {
  constructor(private readonly ctx: RunContext) {}

  async run(value: number): Promise<number> {
    return this.ctx.step('work', () => value + 1);
  }
}

/** A parent whose child is executed by another worker. */
@Workflow('distant-parent')
export class DistantParentWorkflow {
  constructor(private readonly children: ChildOrchestrator) {}

  async run(value: number): Promise<number> {
    return this.children.call(OneStepWorkflow, value, { queue: 'elsewhere' });
  }
}

export const WORKFLOWS = [
  OneStepWorkflow,
  TenStepsWorkflow,
  ParentWorkflow,
  ParkedWorkflow,
  LimitedWorkflow,
  DistantParentWorkflow,
];
