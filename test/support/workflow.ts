import {
  ChildOrchestrator,
  RunContext,
  Workflow,
  type WorkflowClass,
  type WorkflowHandler,
  type WorkflowOptions,
} from '../../lib/index.js';

/** What the code of a test's workflow works with. */
export interface WorkflowTools {
  ctx: RunContext;
  children: ChildOrchestrator;
}

/** A workflow class whose `run` is this function, so that a test shows the code of its run where it needs it. */
export function workflow<Input = void, Output = unknown>(
  nameOrOptions: string | WorkflowOptions,
  code: (tools: WorkflowTools, input: Input) => Promise<Output> | Output,
): WorkflowClass<Input, Output> & (new (...args: never[]) => WorkflowHandler<Input, Output>) {
  @Workflow(nameOrOptions)
  class TestWorkflow implements WorkflowHandler<Input, Output> {
    constructor(
      private readonly ctx: RunContext,
      private readonly children: ChildOrchestrator,
    ) {}

    run(input: Input): Promise<Output> | Output {
      return code({ ctx: this.ctx, children: this.children }, input);
    }
  }
  return TestWorkflow;
}
