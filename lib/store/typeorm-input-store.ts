import type { InputType } from '../engine/input-options.js';
import type {
  AskedInput,
  AskingRun,
  GivenAnswer,
  InputFilter,
  InputIdentity,
  InputStore,
  NewAnswer,
  Offer,
  PendingInput,
  Verdict,
} from '../engine/input-store.js';
import type { Page, RunStatus } from '../engine/run.js';
import { fromSqlText, toSqlText } from '../engine/serialization.js';
import type { Effects } from '../engine/run-write.js';
import type { WokenRun } from '../engine/store.js';
import type { Database, Run } from './database.js';
import { choicesFromRow, listInputs } from './input-queries.js';
import { isUuid } from './is-uuid.js';
import type { NotifyChannel } from './notify-channel.js';
import { nullable, wokenFromRow, type WokenRow } from './rows.js';
import type { Statements } from './statements/all.js';
import { ASKED, CLOSED } from './statements/input.sql.js';

/** How many of its inputs a run tells. */
const LARGEST_LOOK = 100;

/** Inputs on PostgreSQL: one transition, one statement. */
export class TypeOrmInputStore implements InputStore {
  constructor(
    private readonly database: Database,
    private readonly sql: Statements,
    private readonly hints: NotifyChannel,
  ) {}

  list(filter: InputFilter): Promise<Page<PendingInput>> {
    return this.database.patiently(() => listInputs(this.database.dataSource, this.database.schema, filter));
  }

  async find(runId: string, name: string): Promise<AskingRun | undefined> {
    if (!isUuid(runId)) return undefined;
    const rows = await this.database.patiently(() =>
      this.database.run<OpenRow>(this.sql.findInputs, [runId, toSqlText(name), LARGEST_LOOK]),
    );
    const [run] = rows;
    if (!run) return undefined;
    const inputs = rows
      .filter((row) => row.name !== null)
      .map(({ type, choices, judged_by_run, is_pending, ...row }) => ({
        ...identityFromRow(runId, row),
        type,
        choices: choicesFromRow(choices),
        judgedByRun: judged_by_run,
        isPending: is_pending,
      }));
    return { status: run.status, isCancelled: run.is_cancelled, inputs };
  }

  async answer({ answer, offeredForMs, ...offer }: NewAnswer): Promise<WokenRun[]> {
    const parameters = [...offerToRow(offer), answer, offeredForMs];
    return (await this.database.patiently(() => this.database.run<WokenRow>(this.sql.answerInput, parameters))).map(
      wokenFromRow,
    );
  }

  async verdictOf(offer: Offer): Promise<Verdict> {
    const [row] = await this.database.patiently(() =>
      this.database.run<VerdictRow>(this.sql.inputVerdict, offerToRow(offer)),
    );
    const { issues, state, is_recorded } = row!;
    if (issues !== null) return { is: 'refused', issues };
    if (state === 'answered' || is_recorded) return { is: 'accepted' };
    return { is: state === null ? 'gone' : 'open' };
  }

  async withdraw(offer: Offer): Promise<boolean> {
    return (
      (await this.database.patiently(() => this.database.run(this.sql.withdrawOffer, offerToRow(offer)))).length > 0
    );
  }

  async given(runId: string): Promise<GivenAnswer[]> {
    const rows = await this.database.persistently(() => this.database.run<GivenRow>(this.sql.givenAnswers, [runId]));
    return rows.map((row) => ({
      ...identityFromRow(runId, row),
      id: row.offer_id,
      answer: row.answer,
      state: row.state,
      isJudged: row.state === 'answered' && row.judged_by_run,
      answeredAt: row.answered_at,
      offeredUntil: row.offered_until,
    }));
  }

  async accept(offer: Offer, { epoch, output }: { epoch: number; output: string | null }): Promise<boolean> {
    const parameters = [...offerToRow(offer), epoch, output];
    const accepted = await this.database.persistently(() => this.database.run(this.sql.acceptOffer, parameters));
    await this.hints.announceVerdict(offer.runId);
    return accepted.length > 0;
  }

  async refuse(offer: Offer, { epoch, issues }: { epoch: number; issues: string | null }): Promise<void> {
    const parameters = [...offerToRow(offer), epoch, issues];
    await this.database.persistently(() => this.database.run(this.sql.refuseAnswer, parameters));
    await this.hints.announceVerdict(offer.runId);
  }

  async expire(input: InputIdentity): Promise<void> {
    await this.database.persistently(() => this.database.run(this.sql.expireInput, identityToRow(input)));
  }

  /** In the transaction of the run's own write, which has its lock. */
  async applyEffects(
    run: Run,
    { runId, workflow }: { runId: string; workflow: string },
    effects: Effects,
  ): Promise<void> {
    const { asks, closes, closesInputs } = effects;
    if (closesInputs) return void (await run(this.sql.closeAllInputs, [runId]));
    if (asks.length)
      await run(this.sql.askInputs, [runId, toSqlText(workflow), ...ASKED.parameters(asks.map(askedToRow))]);
    if (closes.length) await run(this.sql.closeInputs, [runId, ...CLOSED.parameters(closes.map(closedToRow))]);
  }
}

interface IdentityRow {
  scope: string;
  name: string;
  ordinal: number;
}

interface OpenRow extends IdentityRow {
  status: RunStatus;
  is_cancelled: boolean;
  type: InputType;
  choices: string | null;
  judged_by_run: boolean;
  is_pending: boolean;
}

interface GivenRow extends IdentityRow {
  offer_id: string;
  answer: string | null;
  state: 'offered' | 'answered';
  judged_by_run: boolean;
  answered_at: number;
  offered_until: number | null;
}

interface VerdictRow {
  issues: string | null;
  state: string | null;
  is_recorded: boolean;
}

function identityFromRow(runId: string, { scope, name, ordinal }: IdentityRow): InputIdentity {
  return { runId, scope: fromSqlText(scope), name: fromSqlText(name), ordinal };
}

function identityToRow({ runId, scope, name, ordinal }: InputIdentity): unknown[] {
  return [runId, toSqlText(scope), toSqlText(name), ordinal];
}

function offerToRow(offer: Offer): unknown[] {
  return [...identityToRow(offer), offer.id];
}

function closedToRow({ scope, name, ordinal }: Omit<InputIdentity, 'runId'>) {
  return { scope: toSqlText(scope), name: toSqlText(name), ordinal };
}

function askedToRow(asked: AskedInput) {
  return {
    ...closedToRow(asked),
    type: asked.type,
    prompt: nullable(asked.prompt),
    choices: asked.choices && JSON.stringify(asked.choices),
    judged_by_run: asked.judgedByRun,
    shielded: asked.shielded,
    asked_at: asked.askedAt,
    expires_at: asked.expiresAt,
  };
}
