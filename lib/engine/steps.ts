import { AtMostOnceStepCommand } from './at-most-once-step.js';
import type { Frame } from './branch.js';
import { tolerant } from './current-run.js';
import {
  INLINE_STEP_OPTIONS,
  type InlineStepOptions,
  isName,
  needsDataSource,
  type StepOptions,
  stepProblems,
} from './definition.js';
import { digestOf } from './digest.js';
import { parseDuration } from './duration.js';
import { ValidationError } from './errors.js';
import { toRetryPolicy } from './retry-policy.js';
import { promiseOf, StepCommand, type StepCompensation, type StepPlan, type StepWork } from './step-execution.js';
import { TransactionalStepCommand } from './transactional-step.js';

export function planStep(options: StepOptions): StepPlan {
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

/** A step without options. */
export const PLAIN_STEP: StepPlan = planStep({});

/** Refuses bad options of an inline step, where there is no boot to report them at. */
export function checkedPlan(name: string, options: InlineStepOptions | undefined): StepPlan {
  if (!options && isName(name)) return PLAIN_STEP;
  const problems = stepProblems(options ?? {}, INLINE_STEP_OPTIONS);
  if (!isName(name)) problems.unshift('the name must be a text that is not empty');
  if (options && 'compensate' in options)
    problems.push('compensate is for methods; register ctx.compensate(name, undo) instead');
  if (problems.length)
    throw new ValidationError(
      `The options of step '${name}'`,
      problems.map((message) => ({ message })),
    );
  return planStep(options ?? {});
}

export class StepCall implements StepWork {
  /** @param args what the step was called with; its digest tells a replay that it is the same call. */
  constructor(
    readonly name: string,
    readonly args: readonly unknown[],
    readonly plan: StepPlan,
    readonly body: StepWork['body'],
    readonly compensation?: StepCompensation,
  ) {}
}

/** Runs a step of the current run, or gives its recorded outcome. Inside a transactional step it is a part of that one. */
export function callStep(frame: Frame, call: StepCall): Promise<unknown> {
  const { execution, attempt } = frame;
  const { name, args } = call;
  if (call.compensation && attempt) return tolerant(Promise.reject(compensationInStep(`Step '${name}'`)));
  if (attempt?.transaction) return tolerant(promiseOf(() => call.body(attempt.context)));
  checkDataSource(frame, name, call.plan);
  const digest = args.length ? digestOf(args) : null;
  const command = newStepCommand(frame, digest, call);
  execution.issue(command, { kind: 'step', name }, frame);
  return command.promise;
}

export function newStepCommand({ execution, branch }: Frame, digest: string | null, work: StepWork): StepCommand {
  return new (kindOf(work.plan))(execution, branch, digest, work);
}

function kindOf({ transactional, atMostOnce }: StepPlan): typeof StepCommand {
  if (transactional) return TransactionalStepCommand;
  return atMostOnce ? AtMostOnceStepCommand : StepCommand;
}

/** Refuses a transaction where there is no boot to refuse it at. */
export function checkDataSource({ execution }: Frame, name: string, { transactional }: StepPlan): void {
  if (transactional && !execution.host.transactions)
    throw new ValidationError(`Step '${name}'`, [{ message: needsDataSource(), path: ['transactional'] }]);
}

/** The body of a step that has completed is not entered again: what was registered in it would be forgotten by a replay. */
export function compensationInStep(what: string): ValidationError {
  return new ValidationError(what, [
    {
      message:
        "a compensation cannot be registered in the body of another step; register it in the workflow's own code, " +
        'or give the outer step a compensation that undoes all of it',
    },
  ]);
}
