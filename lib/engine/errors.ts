import type { StoredError } from './stored-error.js';

/** What every error of this library has: a stable `code`, its values as fields, `cause`, and a message with the mend. */
export abstract class OrchestrationError extends Error {
  /** Stable identifier such as `CHILD_FAILED`; messages may change, codes do not. */
  abstract readonly code: string;
  /** The HTTP status with which a controller that lets the error through answers; 500 without one. */
  declare readonly statusCode?: number;

  constructor(message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = new.target.name;
  }

  /** With {@link expose} the shape of `http-errors`, which Nest's default exception filter answers by. */
  get status(): number | undefined {
    return this.statusCode;
  }

  /** Whether a client may see the message: not of errors that are the server's own. */
  get expose(): boolean {
    return this.statusCode !== undefined && this.statusCode < 500;
  }
}

/** One or more workflow, step or module definitions are wrong. Thrown at boot with all problems at once. */
export class DefinitionError extends OrchestrationError {
  readonly code = 'DEFINITION';

  constructor(readonly problems: string[]) {
    super(
      `${problems.length === 1 ? 'A definition is' : `${problems.length} definitions are`} wrong:\n` +
        problems.map((problem) => `  - ${problem}`).join('\n'),
    );
  }
}

/** The embedded PostgreSQL cannot be started or may not be used here. */
export class EmbeddedDatabaseError extends OrchestrationError {
  readonly code = 'EMBEDDED_DATABASE';
}

/** The database did not answer, or refused the engine. The address is named, never the password. */
export class DatabaseUnavailableError extends OrchestrationError {
  readonly code = 'DATABASE_UNAVAILABLE';
  override readonly statusCode = 503;

  constructor(
    readonly address: string,
    options: { cause: unknown; advice: string },
  ) {
    const reason = options.cause instanceof Error ? options.cause.message : String(options.cause);
    super(`The database at ${address} cannot be used: ${reason}. ${options.advice}`, { cause: options.cause });
  }
}

/** The tables are older than this version of the library needs, and it may not migrate them itself. */
export class SchemaBehindError extends OrchestrationError {
  readonly code = 'SCHEMA_BEHIND';

  constructor(
    readonly schema: string,
    readonly pending: string[],
  ) {
    super(
      `The schema "${schema}" lacks ${pending.length} migration(s): ${pending.join(', ')}. ` +
        'Run `npx orchestration migrate` before this process (in a deploy job, for example), or boot one with `migrate: true`.',
    );
  }
}

/** A member that only makes sense inside a run, or inside the body of a step, was used outside one. */
export class NotInRunError extends OrchestrationError {
  readonly code = 'NOT_IN_RUN';

  constructor(
    readonly member: string,
    missing: 'run' | 'step' = 'run',
  ) {
    super(
      missing === 'run'
        ? `${member} was used outside a run. It works in the code of a workflow (its run method and what that calls). ` +
            'From a controller or a service, inject Orchestrator and use its methods instead.'
        : `${member} was used in a run, but outside the body of a step. It works in a method with @Step(), and in the ` +
            'function that ctx.step(name, body) is given, until that has ended.',
    );
  }
}

/** A blocking call of `Orchestrator` was made inside a run, where it could not be replayed. */
export class InsideRunError extends OrchestrationError {
  readonly code = 'INSIDE_RUN';

  constructor(
    readonly member: string,
    readonly instead: string,
  ) {
    super(`${member} would block this run without a record of it. Inside a run use ${instead}, which is durable.`);
  }
}

/** `ctx.manager` was used where there is no transaction of a step. */
export class NotInTransactionError extends OrchestrationError {
  readonly code = 'NOT_IN_TRANSACTION';

  constructor() {
    super(
      'ctx.manager was used outside a transactional step. It works in the body of a step with the option `transactional: true`: ' +
        '@Step({ transactional: true }), or ctx.step(name, body, { transactional: true }).',
    );
  }
}

/** A call that waits durably was made in the body of a step that may not: a transactional one, or one that begins at most once. */
export class InsideStepError extends OrchestrationError {
  readonly code = 'INSIDE_STEP';

  constructor(
    readonly call: string,
    readonly step: string,
  ) {
    super(
      `The body of step '${step}' asked for ${call}, and the step is transactional or begun at most once. Such a body cannot wait ` +
        'durably: its transaction would be held all the time, or it would have to be entered again afterwards. Make that call before or ' +
        'after the step. To start a run with the writes of a transaction, use orchestrator.start with { manager: ctx.manager }.',
    );
  }
}

/** No workflow of that name (and version) is registered here or by a live worker. */
export class WorkflowNotRegisteredError extends OrchestrationError {
  readonly code = 'WORKFLOW_NOT_REGISTERED';
  override readonly statusCode = 404;

  constructor(
    readonly workflow: string,
    readonly nearest: string | undefined,
    /** Whether other processes could have it as well. */
    isAnywhere = true,
  ) {
    super(
      `No workflow '${workflow}' is registered in this process${isAnywhere ? ' or by a live worker' : ''}. ` +
        (nearest ? `Did you mean '${nearest}'? ` : '') +
        'Add its class to the providers of a module.',
    );
  }
}

/** There is no run with that id or key. */
export class RunNotFoundError extends OrchestrationError {
  readonly code = 'RUN_NOT_FOUND';
  override readonly statusCode = 404;

  constructor(
    readonly runId: string,
    what = `run '${runId}'`,
    why = 'It was never started here, or retention has removed it.',
  ) {
    super(`There is no ${what}. ${why}`);
  }
}

/** There is no schedule with that id. */
export class ScheduleNotFoundError extends OrchestrationError {
  readonly code = 'SCHEDULE_NOT_FOUND';
  override readonly statusCode = 404;

  constructor(readonly scheduleId: string) {
    super(`There is no schedule '${scheduleId}'. orchestrator.schedules.list() shows those that there are.`);
  }
}

/** The key belongs to a run that was started with another input, or `onConflict: 'reject'` was asked for. */
export class RunConflictError extends OrchestrationError {
  readonly code = 'RUN_CONFLICT';
  override readonly statusCode = 409;

  constructor(
    readonly workflow: string,
    readonly key: string,
    readonly runId: string,
    why: 'other input' | 'rejected',
  ) {
    super(
      why === 'other input'
        ? `Workflow '${workflow}' already has run ${runId} with the key '${key}', started with another input. ` +
            'Use another key, or the same input to get that run.'
        : `Workflow '${workflow}' already has run ${runId} with the key '${key}', and onConflict is 'reject'.`,
    );
  }
}

/** The tenant has started as many runs as `tenants.startLimit` allows. */
export class StartLimitError extends OrchestrationError {
  readonly code = 'START_LIMIT';
  override readonly statusCode = 429;
  /** Seconds until it may start the next, as the HTTP header Retry-After has them. */
  readonly retryAfter: number;

  constructor(
    readonly tenant: string,
    readonly limit: number,
    readonly perMs: number,
    retryAfterMs: number,
  ) {
    const retryAfter = Math.max(1, Math.ceil(retryAfterMs / 1000));
    super(
      `Tenant '${tenant}' has started ${limit} runs in the last ${perMs / 1000} s, which is its limit (tenants.startLimit). ` +
        `Start it again in ${retryAfter} s.`,
    );
    this.retryAfter = retryAfter;
  }
}

/** The run has ended: nobody would receive what is sent to it. */
export class RunFinishedError extends OrchestrationError {
  readonly code = 'RUN_FINISHED';
  override readonly statusCode = 409;

  constructor(
    readonly runId: string,
    readonly runStatus: string,
    refusal = 'takes no signal any more. Start a new run, or signal it before it ends.',
  ) {
    super(`Run ${runId} is ${runStatus} and ${refusal}`);
  }
}

/** The operation needs a finished run. */
export class RunNotFinishedError extends OrchestrationError {
  readonly code = 'RUN_NOT_FINISHED';
  override readonly statusCode = 409;

  constructor(
    readonly runId: string,
    readonly runStatus: string,
    action: string,
  ) {
    super(`Run ${runId} is ${runStatus}; ${action}.`);
  }
}

/** The run whose result was asked for ended `failed`; `cause` is its error. */
export class RunFailedError extends OrchestrationError {
  readonly code = 'RUN_FAILED';

  constructor(
    readonly runId: string,
    readonly workflow: string,
    cause: unknown,
  ) {
    super(`Run ${runId} of '${workflow}' failed: ${messageOf(cause)}`, { cause });
  }
}

/** The run whose result was asked for ended `cancelled`. */
export class RunCancelledError extends OrchestrationError {
  readonly code = 'RUN_CANCELLED';

  constructor(
    readonly runId: string,
    readonly workflow: string,
    readonly reason: string | undefined,
  ) {
    super(`Run ${runId} of '${workflow}' was cancelled${reason ? `: ${reason}` : ''}`);
  }
}

/** A run passed its own deadline: it ends `failed` with this error. */
export class RunTimeoutError extends OrchestrationError {
  readonly code = 'RUN_TIMEOUT';

  constructor(
    readonly runId: string,
    readonly deadline: Date,
  ) {
    super(
      `Run ${runId} did not end by its deadline, ${deadline.toISOString()}. Give it a longer timeout, or look at what it waited for.`,
    );
  }
}

/** A run's worker process died again and again while it made no progress. */
export class RunPoisonedError extends OrchestrationError {
  readonly code = 'RUN_POISONED';

  constructor(
    readonly runId: string,
    readonly recoveries: number,
  ) {
    super(
      `Run ${runId} was recovered ${recoveries} times without recording anything: its worker process dies every time. ` +
        'Mend the step that it stands at, then orchestrator.retry(runId) gives it a fresh budget.',
    );
  }
}

/** The caller of `result()` waited long enough; the run itself goes on. */
export class ResultTimeoutError extends OrchestrationError {
  readonly code = 'RESULT_TIMEOUT';
  override readonly statusCode = 504;

  constructor(
    readonly runId: string,
    readonly timeoutMs: number,
  ) {
    super(`Run ${runId} had no result after ${timeoutMs} ms. It goes on; ask again with orchestrator.result().`);
  }
}

/** Thrown into a run that was cancelled, at whatever it waits for, and into the losing branches of a race. */
export class CancelledError extends OrchestrationError {
  readonly code = 'CANCELLED';

  constructor(readonly reason: string | undefined) {
    super(reason ? `Cancelled: ${reason}` : 'Cancelled');
  }
}

/** A step has used up its attempts, or its error may not be retried; `cause` is the last error in its stored form. */
export class StepFailedError extends OrchestrationError {
  readonly code = 'STEP_FAILED';

  constructor(
    readonly step: string,
    readonly attempts: number,
    cause: unknown,
  ) {
    super(`Step '${step}' failed after ${attempts} attempt${attempts === 1 ? '' : 's'}: ${messageOf(cause)}`, {
      cause,
    });
  }
}

/** One attempt of a step took longer than its `timeout`. */
export class StepTimeoutError extends OrchestrationError {
  readonly code = 'STEP_TIMEOUT';

  constructor(
    readonly step: string,
    readonly timeoutMs: number,
  ) {
    super(
      `An attempt of step '${step}' did not end within ${timeoutMs} ms, its timeout, and its AbortSignal was fired. ` +
        'Give the step a longer timeout, or find out what its body waits for.',
    );
  }
}

/** The process died, or gave up, in the body of a step that is begun at most once: nobody knows how far it came. */
export class StepInterruptedError extends OrchestrationError {
  readonly code = 'STEP_INTERRUPTED';

  constructor(
    readonly step: string,
    readonly attempt: number,
  ) {
    super(
      `Attempt ${attempt} of step '${step}' was begun, and its end is not known: its process died, or was told to end. It is not run ` +
        'again (atMostOnce). Find out what it did before you decide how to go on.',
    );
  }
}

/** Thrown by a step to say that another attempt would not help. */
export class NonRetryableError extends OrchestrationError {
  readonly code: string = 'NON_RETRYABLE';
}

const CATCH_OR_VALUE = 'Catch this error, or give timeoutValue to get a value instead.';

/** No signal of that name came within the `timeout` of the wait. */
export class SignalTimeoutError extends OrchestrationError {
  readonly code = 'SIGNAL_TIMEOUT';

  constructor(
    readonly signal: string,
    readonly timeoutMs: number,
  ) {
    super(`Signal '${signal}' did not come within ${timeoutMs} ms. ${CATCH_OR_VALUE}`);
  }
}

/** The child ended `failed`; `cause` is the child's error with its whole chain. */
export class ChildFailedError extends OrchestrationError {
  readonly code = 'CHILD_FAILED';

  constructor(
    readonly childId: string,
    readonly ref: string,
    readonly workflow: string,
    cause: unknown,
  ) {
    super(`Child '${ref}' (${workflow}, run ${childId}) failed: ${messageOf(cause)}`, { cause });
  }
}

/** The child was cancelled: directly, or by its own parent's `children.cancel`. */
export class ChildCancelledError extends OrchestrationError {
  readonly code = 'CHILD_CANCELLED';

  constructor(
    readonly childId: string,
    readonly ref: string,
    readonly workflow: string,
    readonly reason: string | undefined,
  ) {
    super(`Child '${ref}' (${workflow}, run ${childId}) was cancelled${reason ? `: ${reason}` : ''}`);
  }
}

/** The child had not ended when the caller's `timeout` was over. */
export class ChildTimeoutError extends OrchestrationError {
  readonly code = 'CHILD_TIMEOUT';

  constructor(
    readonly childId: string,
    readonly ref: string,
    readonly workflow: string,
    readonly timeoutMs: number,
  ) {
    super(`Child '${ref}' (${workflow}, run ${childId}) did not end within ${timeoutMs} ms. ${CATCH_OR_VALUE}`);
  }
}

/** The ref names a child of this run that was started with another workflow or input. */
export class ChildRefConflictError extends OrchestrationError {
  readonly code = 'CHILD_REF_CONFLICT';

  constructor(
    readonly ref: string,
    readonly childId: string,
    readonly expected: string,
    readonly found: string,
  ) {
    super(
      `The ref '${ref}' already names run ${childId} (${expected}), and this call asks for ${found}. ` +
        'Give each child of a run a ref of its own, or none.',
    );
  }
}

/** A chain of runs that start each other has become too deep. */
export class DepthLimitError extends OrchestrationError {
  readonly code = 'DEPTH_LIMIT';

  constructor(
    readonly limit: number,
    readonly workflow: string,
  ) {
    super(
      `'${workflow}' would be run ${limit + 1} of a chain of children; ${limit} is the limit. If a workflow starts itself for ever, ` +
        'end the chain by its input; to go on in one run, use ctx.continueAsNew.',
    );
  }
}

/** Nobody had answered when the `timeout` of `ctx.waitForInput` was over. */
export class InputTimeoutError extends OrchestrationError {
  readonly code = 'INPUT_TIMEOUT';

  constructor(
    readonly input: string,
    readonly timeoutMs: number,
  ) {
    super(`Input '${input}' was not answered within ${timeoutMs} ms. ${CATCH_OR_VALUE}`);
  }
}

/** The run does not wait for that input: not yet, not any more, or another answer was first. `pending` are those it waits for. */
export class InputNotPendingError extends OrchestrationError {
  readonly code = 'INPUT_NOT_PENDING';
  override readonly statusCode = 409;

  constructor(
    readonly runId: string,
    readonly input: string,
    why: string,
    readonly pending: readonly string[],
  ) {
    super(
      `Run ${runId} takes no answer to input '${input}': ${why}. ` +
        (pending.length ? `It waits for ${pending.map((name) => `'${name}'`).join(', ')}.` : 'It waits for no input.'),
    );
  }
}

/** No worker has judged an answer by the schema in the run's code; the answer was taken back, and the input is pending as before. */
export class InputNotJudgedError extends OrchestrationError {
  readonly code = 'INPUT_NOT_JUDGED';
  override readonly statusCode = 503;

  constructor(
    readonly runId: string,
    readonly input: string,
    readonly workflow: string,
    readonly timeoutMs: number,
  ) {
    super(
      `The answer to input '${input}' of run ${runId} was not checked within ${timeoutMs} ms, and has been taken back. ` +
        `Only a worker with the code of '${workflow}' has its schema: start one, or answer again.`,
    );
  }
}

/** An argument of a call is wrong; `issues` has one entry for each thing that is (the shape of Standard Schema). */
export class ValidationError extends OrchestrationError {
  readonly code = 'VALIDATION';
  override readonly statusCode = 400;

  constructor(
    readonly what: string,
    readonly issues: ReadonlyArray<{ readonly message: string; readonly path?: ReadonlyArray<PropertyKey> }>,
  ) {
    super(`${what}: ${issues.map((issue) => issue.message).join('; ')}`);
  }
}

/** The code of a run asks for something else than its history has. The run becomes `blocked`; nothing is lost. */
export class NonDeterminismError extends OrchestrationError {
  readonly code = 'NON_DETERMINISM';

  constructor(
    readonly seq: number,
    readonly expected: string,
    readonly found: string,
  ) {
    super(
      `The code no longer matches the run's history: entry ${seq} is ${expected}, but the code ${found}. ` +
        'Deploy the code that the run started with, put the change behind ctx.patched(id), or register it as a new version of the workflow. ' +
        'The run keeps its history and is tried again when a worker starts, or by orchestrator.retry(runId).',
    );
  }
}

/** A flow cannot go on: a step jumps where it must not, or its `when` gives no answer. */
export class FlowError extends OrchestrationError {
  readonly code = 'FLOW';

  constructor(
    readonly workflow: string,
    readonly step: string,
    problem: string,
    options?: { cause: unknown },
  ) {
    super(`Step '${step}' of flow '${workflow}' ${problem}`, options);
  }
}

const STORE_A_REFERENCE = "Store a reference instead (a row's id, a file's URL), or plain data.";

/** A value cannot be stored: it names where in the value, and what is there. */
export class PayloadError extends OrchestrationError {
  readonly code = 'PAYLOAD';
  override readonly statusCode = 422;
  /** The size of what is too large. */
  readonly bytes: number | undefined;

  constructor(
    readonly what: string,
    readonly path: string,
    readonly problem: string,
    { bytes, advice = STORE_A_REFERENCE, cause }: { bytes?: number; advice?: string; cause?: unknown } = {},
  ) {
    super(`${what} cannot be stored: ${problem} at ${path}. ${advice}`, cause === undefined ? undefined : { cause });
    this.bytes = bytes;
  }
}

/**
 * A stored payload cannot be read: its key is missing, it was changed, or it is of another codec. A run that needs it
 * becomes `blocked`; nothing is lost.
 */
export class UnreadablePayloadError extends OrchestrationError {
  readonly code = 'PAYLOAD_UNREADABLE';
  /** The key that it asks for, where it says so. */
  readonly keyId: string | undefined;

  constructor(
    readonly problem: string,
    { keyId, advice, cause }: { keyId?: string; advice: string; cause?: unknown },
  ) {
    super(
      `A stored payload cannot be read: ${problem}. ${advice}. ` +
        'A run that needs it is blocked and keeps its history; it is tried again when a worker starts, or by orchestrator.retry(runId).',
      cause === undefined ? undefined : { cause },
    );
    this.keyId = keyId;
  }
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String((cause as StoredError | undefined)?.message ?? cause);
}
