import type { DatabaseClock } from '../engine/clock.js';
import type { RunStatus } from '../engine/run.js';
import { fromSqlText, type PayloadSerializer, toSqlText } from '../engine/serialization.js';
import {
  beginsWithStart,
  type NewChild,
  type NewRun,
  NOBODY,
  type Opening,
  type Placement,
  type StartOutcome,
  type StartResult,
} from '../engine/new-run.js';
import type { ForkRequest } from '../engine/store.js';
import type { Run } from './database.js';
import { childToRow, newRunToRow, nullable } from './rows.js';
import type { StartLimiter } from './start-limiter.js';
import type { Statements } from './statements/all.js';
import { CHILDREN } from './statements/new-runs.sql.js';
import { BEGUN_RUNS, NEW_RUNS } from './statements/start.sql.js';

/** A key may be held by an open transaction for long, and a connection must not; it is tried again with pauses. */
const KEY_PATIENCE_MS = 100;

interface Insertion {
  placement: Placement;
  /** An earlier try may have inserted them. */
  isRepeated: boolean;
  /** How long to wait for a transaction that holds a key; undefined: as the transaction has it. */
  keyPatienceMs: number | undefined;
}

/** Nobody begins these with their start, so how they are inserted minds no repetition. */
const ADMITTED: Insertion = { placement: NOBODY, isRepeated: true, keyPatienceMs: KEY_PATIENCE_MS };
const UNCOMMITTED: Insertion = { ...ADMITTED, keyPatienceMs: undefined };

interface StartedRow {
  id: string;
  status: RunStatus;
  deadline: number | null;
  at: number;
}

interface FoundRow extends StartedRow {
  position: number;
  begins: boolean;
  input_digest: string;
}

/**
 * Starts of runs: a start whose key finds a run gives that run, and starts nothing. Each member runs inside a transaction,
 * or a statement, of the caller's.
 */
export class Starts {
  constructor(
    private readonly sql: Statements,
    private readonly serializer: PayloadSerializer,
    private readonly clock: DatabaseClock,
    private readonly limiter: StartLimiter,
  ) {}

  /** Whether these need a transaction, for they have to be counted first. */
  areLimited(runs: readonly Pick<NewRun, 'tenant'>[]): boolean {
    return this.limiter.concerns(runs);
  }

  /** One statement, unless they are limited. `together`: when one is refused, none is started. */
  async start(
    run: Run,
    runs: readonly NewRun[],
    { placement, together, isRepeated }: { placement: Placement; together: boolean; isRepeated: boolean },
  ): Promise<StartOutcome[]> {
    const how: Insertion = { placement, isRepeated, keyPatienceMs: KEY_PATIENCE_MS };
    if (!this.areLimited(runs)) return this.insert(run, runs, how);
    await this.limiter.lock(run, runs);
    const outcomes: (StartOutcome | undefined)[] = runs.map(() => undefined);
    // No limit concerns a start that starts nothing.
    await this.findThoseThatWereThere(run, runs, outcomes);
    const news = runs.filter((_, index) => !outcomes[index]);
    const refusals = await this.limiter.refusals(run, news);
    const admitted = together && refusals.size > 0 ? [] : news.filter((newRun) => !refusals.has(newRun));
    const started = admitted.length ? await this.insert(run, admitted, how) : [];
    const [first] = refusals.values();
    return runs.map((newRun, index) => {
      const known = outcomes[index] ?? started[admitted.indexOf(newRun)];
      return known ?? { refusal: refusals.get(newRun) ?? first! };
    });
  }

  /** In a transaction that may stay open for long. Throws StartLimitError. */
  async startUncommitted(run: Run, newRun: NewRun): Promise<StartResult> {
    // Without the lock: it would be held for as long as the caller's transaction is open.
    await this.refuse(run, newRun);
    const [result] = await this.insert(run, [newRun], UNCOMMITTED);
    return result!;
  }

  /** Counts it among the starts of its tenant, if those have a limit. Throws StartLimitError. */
  async admit(run: Run, newRun: Pick<NewRun, 'tenant'>): Promise<void> {
    if (!this.areLimited([newRun])) return;
    await this.limiter.lock(run, [newRun]);
    await this.refuse(run, newRun);
  }

  /**
   * The same for a fork, which is its original's tenant's. Before the original is locked: whoever replaces that run by its key
   * has the lock of the tenant first, too.
   */
  async admitFork(run: Run, { runId, newId }: ForkRequest): Promise<void> {
    if (this.limiter.limit === undefined) return;
    const [original] = await run<{ tenant: string | null; was_forked: boolean }>(this.sql.findTenant, [runId, newId]);
    if (!original || original.was_forked) return;
    await this.admit(run, { tenant: original.tenant === null ? null : fromSqlText(original.tenant) });
  }

  /** One that was admitted, for whoever claims it. */
  async startAdmitted(run: Run, newRun: NewRun): Promise<StartResult> {
    const [result] = await this.insert(run, [newRun], ADMITTED);
    return result!;
  }

  private async refuse(run: Run, newRun: Pick<NewRun, 'tenant'>): Promise<void> {
    if (!this.areLimited([newRun])) return;
    const refusal = (await this.limiter.refusals(run, [newRun])).get(newRun);
    if (refusal) throw refusal;
  }

  private async insert(run: Run, runs: readonly NewRun[], how: Insertion): Promise<StartResult[]> {
    const rows = await this.insertRows(run, runs, how);
    const inserted = new Map(rows.map((row) => [row.id, row]));
    const openings = new Map(how.placement.openings.map((opening) => [opening.runId, opening]));
    const results = runs.map((newRun): StartResult | undefined => {
      const row = inserted.get(newRun.id);
      return row && { ...toStarted(row, newRun), opened: openedWith(openings.get(newRun.id), row.status, inserted) };
    });
    await this.findThoseThatWereThere(run, runs, results);
    refuseThoseThatAreGone(runs, results);
    const [first] = inserted.values();
    if (first) this.clock.synchronise(first.at);
    return results as StartResult[];
  }

  private async insertRows(
    run: Run,
    runs: readonly NewRun[],
    { placement, isRepeated, keyPatienceMs }: Insertion,
  ): Promise<StartedRow[]> {
    const placed = [placement.workerId ?? null, placement.definitions.map(toSqlText)];
    if (!isRepeated && runs.every(beginsWithStart)) {
      const begun = await this.begin(run, runs, placement.openings, placed);
      if (begun.length) return begun;
    }
    const rows = NEW_RUNS.parameters(runs.map((newRun) => newRunToRow(newRun, this.serializer)));
    return run(this.sql.insertRuns, [...rows, ...placed, keyPatienceMs?.toString() ?? null]);
  }

  /** All of them, with their openings, or none. */
  private begin(
    run: Run,
    runs: readonly NewRun[],
    openings: readonly Opening[],
    placed: readonly unknown[],
  ): Promise<StartedRow[]> {
    const waits = new Map(openings.map(({ runId, waitingFor }) => [runId, waitingFor]));
    const rows = BEGUN_RUNS.parameters(
      runs.map((newRun) => newRunToRow(newRun, this.serializer, waits.get(newRun.id))),
    );
    if (openings.length === 0) return run(this.sql.beginRuns, [...rows, ...placed]);
    const children = openings.flatMap((opening) => opening.children.map((child) => childToRow(child, this.serializer)));
    return run(this.sql.beginOpenedRuns, [...rows, ...placed, ...CHILDREN.parameters(children)]);
  }

  private async findThoseThatWereThere(
    run: Run,
    runs: readonly NewRun[],
    results: (StartOutcome | undefined)[],
  ): Promise<void> {
    const missing = runs.flatMap((newRun, index) => (results[index] ? [] : [{ newRun, index }]));
    if (missing.length === 0) return;
    const rows = await run<FoundRow>(this.sql.findStarted, [
      missing.map(({ newRun }) => newRun.id),
      missing.map(({ newRun }) => toSqlText(newRun.workflow)),
      missing.map(({ newRun }) => nullable(newRun.key)),
    ]);
    for (const row of rows) {
      const { newRun, index } = missing[row.position - 1]!;
      results[index] = this.toFound(row, newRun);
    }
  }

  private toFound({ id, status, begins, input_digest, deadline, at }: FoundRow, newRun: NewRun): StartResult {
    const isSameInput = this.serializer.isDigest(input_digest, newRun.inputDigest);
    const inputDigest = isSameInput ? newRun.inputDigest : input_digest;
    return { id, started: id === newRun.id, status, begins, inputDigest, at, deadline };
  }
}

function toStarted({ id, status, deadline, at }: StartedRow, { inputDigest }: NewRun): StartResult {
  return { id, started: true, status, begins: status === 'running', inputDigest, at, deadline };
}

/** What became of the children of an opening, if that was kept: then its run waits. */
function openedWith(
  opening: Opening | undefined,
  status: RunStatus,
  rows: ReadonlyMap<string, StartedRow>,
): NewChild[] | undefined {
  if (status !== 'waiting') return undefined;
  return opening?.children.flatMap(({ id }) => {
    const row = rows.get(id);
    return row ? { id, begins: row.status === 'running', deadline: row.deadline } : [];
  });
}

function refuseThoseThatAreGone(runs: readonly NewRun[], results: readonly (StartResult | undefined)[]): void {
  const gone = runs.find((_, index) => !results[index]);
  if (gone)
    throw new Error(`The run with the key '${gone.key}' was deleted while it was started again; start it once more`);
}
