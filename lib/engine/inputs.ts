import { type Duration, parseDuration } from './duration.js';
import type { Engine } from './engine.js';
import { InputNotJudgedError, InputNotPendingError, RunNotFoundError, ValidationError } from './errors.js';
import { type Issue, issuesOf } from './input-answer.js';
import type { AskingRun, InputFilter, NewAnswer, OpenInput, PendingInput } from './input-store.js';
import { newId } from './new-id.js';
import { isTerminal, type Page } from './run.js';
import { check } from './start-options.js';

const VERDICT_TIMEOUT_MS = 15_000;
/** An offer outlasts the one who makes it, who takes it back; only if that process is gone it lapses by itself. */
const LAPSES_AFTER_MS = 5_000;

const PROVIDE_OPTIONS = new Set(['timeout']);

export interface ProvideOptions {
  /** How long to wait until a worker has checked a form by the schema in its code. Default 15 s. */
  timeout?: Duration;
}

/** What runs wait for people to answer, in all processes. */
export class Inputs {
  constructor(private readonly engine: () => Promise<Engine>) {}

  /** What can be answered now, the longest waiting first, page by page. @throws ValidationError */
  async list(filter: InputFilter = {}): Promise<Page<PendingInput>> {
    return (await this.engine()).store.inputs.list(filter);
  }

  /**
   * Answers an input, and resolves when the answer is durable: the run goes on with it, when and wherever it executes. Of
   * several that a run waits for by one name, the one that was asked first is answered.
   * @throws ValidationError (the answer is wrong: `issues`; the input stays pending), InputNotPendingError, RunNotFoundError,
   *   InputNotJudgedError (no worker has checked a form in time: the answer was taken back), PayloadError
   */
  async provide(runId: string, name: string, value: unknown, options: ProvideOptions = {}): Promise<void> {
    check(`The options of inputs.provide('${name}')`, options, PROVIDE_OPTIONS);
    const engine = await this.engine();
    const answer = engine.serializer.encode(value, `the answer to input '${name}'`);
    const timeoutMs = options.timeout === undefined ? VERDICT_TIMEOUT_MS : parseDuration(options.timeout);
    for (;;) {
      const input = findPending(await engine.store.inputs.find(runId, name), runId, name);
      checkAnswer(name, issuesOf(input, value));
      const offeredForMs = input.judgedByRun ? timeoutMs + LAPSES_AFTER_MS : null;
      const given: NewAnswer = { ...identityOf(input), id: newId(), answer, offeredForMs };
      const woken = await engine.store.inputs.answer(given);
      // Somebody else was faster: it is asked again what there is to answer.
      if (woken.length === 0) continue;
      engine.woken(woken);
      return input.judgedByRun ? await this.judged(engine, given, timeoutMs) : undefined;
    }
  }

  private async judged(engine: Engine, offer: NewAnswer, timeoutMs: number): Promise<void> {
    const { runId, name } = offer;
    let verdict = await engine.inputVerdicts.of(offer, timeoutMs);
    if (!verdict) {
      if (await engine.store.inputs.withdraw(offer)) {
        const run = await engine.store.runs.get(runId);
        throw new InputNotJudgedError(runId, name, run?.workflow ?? 'the run', timeoutMs);
      }
      verdict = await engine.store.inputs.verdictOf(offer);
    }
    if (verdict.is === 'refused') checkAnswer(name, engine.serializer.decode(verdict.issues) as Issue[]);
    if (verdict.is === 'gone') {
      const run = await engine.store.inputs.find(runId, name);
      throw notPending(run, runId, name);
    }
  }
}

function findPending(run: AskingRun | undefined, runId: string, name: string): OpenInput {
  const input = run?.inputs.find((one) => one.name === name && one.isPending);
  if (input) return input;
  throw notPending(run, runId, name);
}

function notPending(run: AskingRun | undefined, runId: string, name: string): Error {
  if (!run) return new RunNotFoundError(runId);
  const pending = run.inputs.filter((input) => input.isPending).map((input) => input.name);
  return new InputNotPendingError(runId, name, reason(run, name), pending);
}

function reason({ status, isCancelled, inputs }: AskingRun, name: string): string {
  if (isTerminal(status)) return `the run is ${status}`;
  if (isCancelled) return 'the run is being cancelled';
  if (inputs.some((input) => input.name === name))
    return 'it was answered already, its time is over, or another answer is being checked';
  return 'the run does not wait for it (any more)';
}

function checkAnswer(name: string, issues: readonly Issue[]): void {
  if (issues.length) throw new ValidationError(`The answer to input '${name}'`, issues);
}

function identityOf({ runId, scope, name, ordinal }: OpenInput) {
  return { runId, scope, name, ordinal };
}
