import type { StandardSchemaV1 } from '@standard-schema/spec';
import type { Branch } from './branch.js';
import { Command } from './command.js';
import { InputTimeoutError } from './errors.js';
import { applySchema, type Issue, issuesOf } from './input-answer.js';
import type { InputType } from './input-options.js';
import type { AskedInput, GivenAnswer } from './input-store.js';
import type { RunExecution } from './run-execution.js';
import type { WaitingFor } from './run.js';
import type { RecordedOutcome } from './recorded-run.js';

export interface InputPlan {
  type: InputType;
  prompt: string | null;
  choices: readonly string[] | null;
  schema: StandardSchemaV1 | undefined;
  timeoutMs: number | undefined;
  /** Set when a timeout gives this value and no error. */
  instead: { value: unknown } | undefined;
}

/** Waits for the answer of a person: parked, and woken by the answer itself. */
export class InputWaitCommand extends Command {
  /** When the wait ends without an answer. */
  private expiresAt: number | null = null;
  private isAsked = false;
  /** The answer, until its turn comes. */
  private taken: { output: string | null } | undefined;

  constructor(
    execution: RunExecution,
    branch: Branch,
    private readonly plan: InputPlan,
  ) {
    // Prompt and choices may be reworded by a deploy; what kind of value the code gets may not.
    super(execution, branch, plan.type);
  }

  begin(): void {
    const { execution, plan } = this;
    if (plan.timeoutMs !== undefined) this.expiresAt = execution.countsFrom(this) + plan.timeoutMs;
    if (this.expiresAt !== null) execution.fireAt(this, this.expiresAt);
    // What is over in the first pass over the run already is never asked, so nobody can have answered it.
    this.isAsked = !(execution.run.fresh && this.expiresAt !== null && this.expiresAt <= execution.clock.now());
    if (this.isAsked) execution.inputs.ask(this);
  }

  /** The question, as it is asked of people. */
  get asked(): AskedInput {
    const { scope, name, ordinal } = this.identity;
    const { type, prompt, choices, schema } = this.plan;
    const { expiresAt, askedAt, branch } = this;
    const judgedByRun = schema !== undefined;
    return {
      scope,
      name,
      ordinal,
      type,
      prompt,
      choices,
      judgedByRun,
      shielded: branch.isShielded,
      askedAt,
      expiresAt,
    };
  }

  override get isTimed(): boolean {
    return this.plan.timeoutMs !== undefined;
  }

  override fire(): void {
    this.wakeAt = null;
    if (this.taken) this.execution.settle(this, { status: 'completed', output: this.taken.output });
    else if (this.isAsked) this.execution.inputs.expire(this);
    else this.timeOut();
  }

  /** The answer, which was due when it was given: before a timer that was due later, whenever both are noticed. */
  take(output: string | null, answeredAt: number): void {
    if (!this.open || this.taken) return;
    this.taken = { output };
    this.execution.fireAt(this, answeredAt);
  }

  get isTaken(): boolean {
    return this.taken !== undefined;
  }

  /** Its time is over, and nobody has answered. */
  timeOut(): void {
    this.execution.settle(this, { status: 'timeout' });
  }

  /** While an offer is judged a timeout waits, though not for longer than the offer stands. */
  holdTimeout(until: number | null): void {
    if (this.wakeAt === null && this.expiresAt !== null) this.wakeAt = until;
  }

  /** The offer was refused: the wait goes on, or ends if its time is over by now. */
  resumeTimeout(): void {
    if (this.open) this.wakeAt = this.expiresAt;
  }

  /** What the code would get of an answer, in its stored form, or what is wrong with it. */
  async judge({ answer, isJudged }: GivenAnswer): Promise<{ output: string | null } | { issues: Issue[] }> {
    if (isJudged) return { output: answer };
    const { serializer } = this.execution;
    const value = serializer.decode(answer);
    const issues = issuesOf(this.plan, value);
    if (issues.length) return { issues };
    if (!this.plan.schema) return { output: answer };
    const judged = await applySchema(this.plan.schema, value);
    if ('issues' in judged) return judged;
    try {
      return { output: serializer.encode(judged.output, `what the schema of input '${this.identity.name}' gives`) };
    } catch (error) {
      return { issues: [{ message: (error as Error).message }] };
    }
  }

  standing(): WaitingFor {
    return {
      kind: 'input',
      name: this.identity.name,
      until: this.expiresAt === null ? null : new Date(this.expiresAt),
    };
  }

  /** The row stays: the run goes on elsewhere, or its end takes care of it. */
  override drop(): void {}

  protected override release(): void {
    if (this.isAsked) this.execution.inputs.close(this);
  }

  protected valueOf(outcome: RecordedOutcome): unknown {
    if (outcome.status === 'completed') return this.execution.serializer.decode(outcome.output);
    const { instead, timeoutMs } = this.plan;
    if (instead) return instead.value;
    throw new InputTimeoutError(this.identity.name, timeoutMs ?? 0);
  }
}
