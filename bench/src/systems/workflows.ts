import { ChildOrchestrator, defineSignal, RunContext, Step, Workflow } from 'nestjs-orchestration';
import { randomText } from '../random-text.js';
import { doomed } from '../doomed.js';

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

@Workflow('ten-steps')
export class TenStepsWorkflow {
  async run(value: number): Promise<number> {
    let result = value;
    for (let count = 0; count < 10; count++) result = await this.work(result);
    return result;
  }

  @Step()
  async work(value: number): Promise<number> {
    return value + 1;
  }
}

@Workflow('parent')
export class ParentWorkflow {
  constructor(private readonly children: ChildOrchestrator) {}

  async run(value: number): Promise<number> {
    return this.children.call(OneStepWorkflow, value);
  }
}

@Workflow('fan-out')
export class FanOutWorkflow {
  constructor(private readonly children: ChildOrchestrator) {}

  async run(count: number): Promise<number> {
    const results = await this.children.map(
      OneStepWorkflow,
      Array.from({ length: count }, (_, index) => index),
    );
    return results.length;
  }
}

@Workflow('payload')
export class PayloadWorkflow {
  async run(bytes: number): Promise<string> {
    return this.produce(bytes);
  }

  @Step()
  async produce(bytes: number): Promise<string> {
    return randomText(bytes);
  }
}

export const GO = defineSignal<null>('go');

/** Makes some steps, and waits until it is told to go. */
@Workflow('parked')
export class ParkedWorkflow {
  constructor(private readonly ctx: RunContext) {}

  async run(steps: number): Promise<void> {
    for (let count = 0; count < steps; count++) await this.work(count);
    await this.ctx.waitForSignal(GO);
  }

  @Step()
  async work(value: number): Promise<number> {
    return value + 1;
  }
}

@Workflow('doomed')
export class DoomedWorkflow {
  async run(): Promise<void> {
    await this.work();
  }

  @Step()
  async work(): Promise<void> {
    await doomed.step();
  }
}

export const WORKFLOWS = [
  OneStepWorkflow,
  TenStepsWorkflow,
  ParentWorkflow,
  FanOutWorkflow,
  PayloadWorkflow,
  ParkedWorkflow,
  DoomedWorkflow,
];
