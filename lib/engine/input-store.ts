import type { InputType } from './input-options.js';
import type { Page, RunStatus } from './run.js';
import type { WokenRun } from './store.js';

/*
 * The database's part of inputs. An input is a row from the write that begins the wait until the write that ends it:
 *
 *   pending → answered                  the answer is the run's; whoever gave it has been told so
 *   pending → offered → answered        by a schema: only the run's code has it, so the run judges, and the one who
 *                     ↘ refused         offers waits for the verdict
 *
 * Every transition is one statement that names the state it starts from, so of two at once one wins. Invariants: what was
 * answered is not closed by a timeout; an offer that was withdrawn, or whose time is over, is never answered.
 */
export interface InputStore {
  /** A page of what can be answered now, longest waiting first. */
  list(filter: InputFilter): Promise<Page<PendingInput>>;
  /** What a run waits for, those of that name first; undefined when there is no such run. */
  find(runId: string, name: string): Promise<AskingRun | undefined>;
  /** Answers a pending input, or offers it an answer, and wakes the run. Empty when it is not pending (any more). */
  answer(answer: NewAnswer): Promise<WokenRun[]>;
  /** What became of an offer. Reading that it was refused makes room for the next. */
  verdictOf(offer: Offer): Promise<Verdict>;
  /** Takes an offer back; false when the run has already judged it. */
  withdraw(offer: Offer): Promise<boolean>;

  /** The answers and offers that a run has been given and has not taken, in the order in which they came. */
  given(runId: string): Promise<GivenAnswer[]>;
  /** The run takes an offer; false when it was withdrawn, or the run is another worker's. */
  accept(offer: Offer, by: { epoch: number; output: string | null }): Promise<boolean>;
  /** The run refuses an offer, or an answer to a question that has changed since. */
  refuse(offer: Offer, by: { epoch: number; issues: string | null }): Promise<void>;
  /** Closes an input whose time is over, unless it was answered or has an offer to be judged: then it is among those given. */
  expire(input: InputIdentity): Promise<void>;
}

export interface InputIdentity {
  runId: string;
  /** The step attempt whose body asks; '' for the workflow's own code. */
  scope: string;
  name: string;
  ordinal: number;
}

/** An input as the run asks for it. */
export interface AskedInput extends Omit<InputIdentity, 'runId'> {
  type: InputType;
  prompt: string | null;
  choices: readonly string[] | null;
  /** Its schema is in the run's code. */
  judgedByRun: boolean;
  /** Asked in a `shield`: open although the run is being cancelled. */
  shielded: boolean;
  askedAt: number;
  expiresAt: number | null;
}

/** An input as those see it who may answer. */
export interface PendingInput {
  runId: string;
  workflow: string;
  name: string;
  type: InputType;
  prompt: string | undefined;
  /** Of a choice. */
  choices: string[] | undefined;
  expiresAt: Date | undefined;
}

/** The filter of `orchestrator.inputs.list`. */
export interface InputFilter {
  workflow?: string;
  /** Inputs that stop to be pending before that time. */
  expiringBefore?: Date;
  /** 1 to 1,000; default 50. */
  limit?: number;
  cursor?: string;
}

export interface AskingRun {
  status: RunStatus;
  isCancelled: boolean;
  inputs: OpenInput[];
}

export interface OpenInput extends InputIdentity {
  type: InputType;
  choices: string[] | null;
  judgedByRun: boolean;
  /** Whether it takes an answer: it has none, none is being judged, and its time is not over. */
  isPending: boolean;
}

/** An answer under way from the one who gives it to the run; the id tells it from all others. */
export interface Offer extends InputIdentity {
  id: string;
}

export interface NewAnswer extends Offer {
  answer: string | null;
  /** For how long it stands, when the run has to judge it; null for an answer that is one already. */
  offeredForMs: number | null;
}

export type Verdict =
  | { is: 'open' | 'accepted' }
  | { is: 'refused'; issues: string }
  /** The wait has ended otherwise. */
  | { is: 'gone' };

export interface GivenAnswer extends Offer {
  answer: string | null;
  state: 'offered' | 'answered';
  /** It is what the schema has given. */
  isJudged: boolean;
  answeredAt: number;
  /** Until when an offer stands. */
  offeredUntil: number | null;
}
