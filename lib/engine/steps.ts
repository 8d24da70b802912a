import { AtMostOnceStepCommand } from './at-most-once-step.js';
import type { Frame } from './branch.js';
import { tolerant } from './current-run.js';
import { needsDataSource, type StepOptions, stepProblems } from './definition.js';
import { digestOf } from './digest.js';
import { parseDuration } from './duration.js';
import { ValidationError } from './errors.js';
import { toRetryPolicy } from './retry-policy.js';
import { StepCommand, type StepContext, type StepPlan } from './step-execution.js';
import { TransactionalStepCommand } from './transactional-step.js';

export type PlannedStep = Omit<StepPlan, 'body'>;

/** The options of a step, made ready once. */
export function planStep(options: StepOptions): PlannedStep {
  return {
    // What must not be begun twice is not tried again unless that is asked for.
    retry: toRetryPolicy(options.retry ?? (options.atMostOnce ? { maxAttempts: 1 } : undefined)),
    timeoutMs: options.timeout === undefined ? undefined : parseDuration(options.timeout),
    nonRetryable: options.nonRetryable ?? [],
    retryIf: options.retryIf,
    transactional: options.transactional ?? false,
    atMostOnce: options.atMostOnce ?? false,
  };
}

/** Refuses bad options of an inline step, where there is no boot to report them at. */
export function checkedPlan(name: string, options: StepOptions): PlannedStep {
  const problems = stepProblems(options);
  if (problems.length)
    throw new ValidationError(
      `The options of step '${name}'`,
      problems.map((message) => ({ message })),
    );
  return planStep(options);
}

export interface StepCall {
  name: string;
  /** What the step was called with; its digest tells a replay that it is the same call. */
  args: readonly unknown[];
  plan: PlannedStep;
  body(context: StepContext): unknown;
}

/** Runs a step of the current run, or gives its recorded outcome. Inside a transactional step it is a part of that one. */
export function callStep(frame: Frame, { name, args, plan, body }: StepCall): Promise<unknown> {
  const { execution, branch, attempt } = frame;
  if (attempt?.transaction) return tolerant(plainCall(body, attempt.context));
  if (plan.transactional && !execution.host.transactions) throw new ValidationError(`Step '${name}'`, [NO_DATA_SOURCE]);
  const digest = args.length ? digestOf(args) : null;
  const command = new (kindOf(plan))(execution, branch, digest, { ...plan, body });
  execution.issue(command, { kind: 'step', name }, frame);
  return tolerant(command.promise);
}

function kindOf({ transactional, atMostOnce }: PlannedStep): typeof StepCommand {
  if (transactional) return TransactionalStepCommand;
  return atMostOnce ? AtMostOnceStepCommand : StepCommand;
}

async function plainCall(body: StepCall['body'], context: StepContext): Promise<unknown> {
  return await body(context);
}

const NO_DATA_SOURCE = { message: needsDataSource(), path: ['transactional'] };
