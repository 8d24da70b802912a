import type { EntityManager, QueryRunner } from 'typeorm';
import type { FleetHealth } from '../engine/health.js';
import type { DatabaseClock } from '../engine/clock.js';
import { OrchestrationError, ValidationError } from '../engine/errors.js';
import type { ExplainedEntry } from '../engine/explain.js';
import type { HistoryEntry, Page, RunDetails, RunStatus, RunSummary, RunTree, TerminalStatus } from '../engine/run.js';
import type { Stats, WorkerInfo } from '../engine/statistics.js';
import { fromSqlText, type PayloadSerializer, toSqlText } from '../engine/serialization.js';
import type {
  Beat,
  BeatRequest,
  CancelRequest,
  CancelResult,
  ClaimedRun,
  ClaimRequest,
  CommitResult,
  CommittedRun,
  Deletion,
  Effects,
  Gate,
  Heartbeat,
  Fork,
  ForkRequest,
  Hints,
  ListFilter,
  NewRun,
  NewSignal,
  Placement,
  QueueStore,
  RecordedRun,
  RunEnd,
  RunWrite,
  SentSignal,
  SignalsFound,
  SignalsWanted,
  StartOutcome,
  StartResult,
  StartWithin,
  StartWithSignal,
  Watched,
  Store,
  WokenRun,
  WorkerRegistration,
} from '../engine/store.js';
import { Canceller } from './canceller.js';
import { CALL_PATIENCE_MS, Database, type Run } from './database.js';
import { deleteFamily } from './delete-family.js';
import { fork } from './fork.js';
import { isUuid } from './is-uuid.js';
import { KeyedStarts } from './keyed-starts.js';
import { type StartLimit, StartLimiter } from './start-limiter.js';
import { QueuesOnTypeOrm } from './queue-store.js';
import { reopen } from './reopen.js';
import {
  cancelFromRow,
  childFromRow,
  type ChildRow,
  childToRow,
  claimFromRow,
  heartbeatToRow,
  type ClaimRow,
  definitionFromText,
  newRunToRow,
  nullable,
  outcomeFromRow,
  type OutcomeRow,
  outcomeToRow,
  toBeWokenRow,
  wokenFromRow,
  type WokenRow,
  writeToRow,
} from './rows.js';
import { RunQueries } from './run-queries.js';
import { Signals } from './signals.js';
import { StoredSchedules } from './schedules.js';
import { Statistics } from './statistics.js';
import { StoredRetention } from './stored-retention.js';
import { allStatements, type Statements } from './statements/all.js';
import { isLockTimeout } from './transient-errors.js';
import { CHILDREN, OUTCOMES, WRITES } from './statements/commit.sql.js';
import { HEARTBEATS } from './statements/heartbeat.sql.js';
import { NEW_RUNS } from './statements/start.sql.js';
import { hintChannel } from './statements/statement.js';
import { TypeOrmInputStore } from './typeorm-input-store.js';
import { WakeUpListener } from './wake-up-listener.js';

/** A key may be held by an open transaction for long, and a connection must not; it is tried again with pauses. */
const KEY_PATIENCE_MS = 100;
/** pg_notify takes 8,000 bytes. */
const LARGEST_HINT = 150;

/** Nobody takes the new run on at once. */
const NOBODY: Placement = { workerId: undefined, definitions: [], resident: [] };

/** The store on PostgreSQL: one transition, one statement. */
export class TypeOrmStore implements Store {
  readonly inputs: TypeOrmInputStore;
  readonly queues: QueueStore;
  readonly schedules: StoredSchedules;
  readonly retention: StoredRetention;
  private readonly sql: Statements;
  private readonly queries: RunQueries;
  private listener: WakeUpListener;
  /** False: what other processes do is found by looking only. */
  hearsHints = true;
  private readonly canceller: Canceller;
  private readonly signals: Signals;
  private readonly limiter: StartLimiter;
  private readonly keyedStarts: KeyedStarts;
  private readonly statistics: Statistics;
  private readonly channel: string;

  constructor(
    private readonly database: Database,
    private readonly serializer: PayloadSerializer,
    private readonly clock: DatabaseClock,
    startLimit?: StartLimit,
  ) {
    this.sql = allStatements(database.schema);
    this.queries = new RunQueries(database.dataSource, serializer);
    this.channel = hintChannel(database.schema);
    this.listener = new WakeUpListener(database, this.channel, () => database.connect());
    this.inputs = new TypeOrmInputStore(database, this.sql, this.channel);
    this.canceller = new Canceller(this.sql, serializer);
    this.signals = new Signals(this.sql);
    this.limiter = new StartLimiter(this.sql, clock, database.schema, startLimit);
    this.keyedStarts = new KeyedStarts(this.sql, this.canceller, async (run, newRun) => {
      const [result] = await this.startOn(run, [newRun], NOBODY, KEY_PATIENCE_MS);
      return result!;
    });
    this.queues = new QueuesOnTypeOrm(database, this.sql, clock, (work) => this.called(work));
    this.schedules = new StoredSchedules(database, this.sql, serializer);
    this.retention = new StoredRetention(database, this.sql);
    this.statistics = new Statistics(database, this.sql);
  }

  /** `listenUrl`: the database itself, where the pool goes through a pooler. Warns when nothing can be heard. */
  async listen(listenUrl: string | undefined, warn: (message: string) => void): Promise<void> {
    const { database } = this;
    this.hearsHints = await this.listener.start();
    database.isPooled = !this.hearsHints;
    if (this.hearsHints && listenUrl === undefined) return;
    this.listener.close();
    if (listenUrl === undefined) return warn(pollsOnly(database.address));
    this.listener = this.listener.over(() => database.connectTo(listenUrl));
    this.hearsHints = await this.listener.start();
    if (!this.hearsHints) warn('listenUrl is not a direct connection to the database: ' + pollsOnly('listenUrl'));
  }

  async close(): Promise<void> {
    this.listener.close();
    await this.database.close();
  }

  // ---- starting

  start(runs: readonly NewRun[], placement: Placement, together: boolean): Promise<StartOutcome[]> {
    return this.called(async () => {
      try {
        if (!this.limiter.concerns(runs))
          return await this.startOn(this.database.run, runs, placement, KEY_PATIENCE_MS);
        return await this.database.transaction((run) => this.startLimited(run, runs, placement, together));
      } catch (error) {
        throw runs.length > 1 && isLockTimeout(error) ? new Error('One of the keys is held', { cause: error }) : error;
      }
    });
  }

  startReplacing(newRun: NewRun): Promise<{ start: StartResult; cancelled: CancelResult | null }> {
    return this.keyed(newRun, (run) => this.keyedStarts.replace(run, newRun));
  }

  startDebounced(newRun: NewRun): Promise<StartResult> {
    return this.keyed(newRun, (run) => this.keyedStarts.debounce(run, newRun));
  }

  private keyed<T>(newRun: NewRun, work: (run: Run) => Promise<T>): Promise<T> {
    return this.called(() =>
      this.database.transaction(async (run) => {
        await this.admit(run, newRun);
        return work(run);
      }),
    );
  }

  /** Throws StartLimitError. */
  private async admit(run: Run, newRun: NewRun): Promise<void> {
    if (!this.limiter.concerns([newRun])) return;
    await this.limiter.lock(run, [newRun]);
    const refusal = (await this.limiter.refusals(run, [newRun])).get(newRun);
    if (refusal) throw refusal;
  }

  /** A start whose key finds a run starts nothing, so no limit concerns it. */
  private async startLimited(
    run: Run,
    runs: readonly NewRun[],
    placement: Placement,
    together: boolean,
  ): Promise<StartOutcome[]> {
    if (!this.limiter.concerns(runs)) return this.startOn(run, runs, placement, KEY_PATIENCE_MS);
    await this.limiter.lock(run, runs);
    const outcomes: (StartOutcome | undefined)[] = runs.map(() => undefined);
    await this.findThoseThatWereThere(run, runs, outcomes, 'perhaps');
    const news = runs.filter((_, index) => !outcomes[index]);
    const refusals = await this.limiter.refusals(run, news);
    const admitted = together && refusals.size > 0 ? [] : news.filter((newRun) => !refusals.has(newRun));
    const started = admitted.length ? await this.startOn(run, admitted, placement, KEY_PATIENCE_MS) : [];
    const [first] = refusals.values();
    return runs.map((newRun, index) => {
      const known = outcomes[index] ?? started[admitted.indexOf(newRun)];
      return known ?? { refusal: refusals.get(newRun) ?? first! };
    });
  }

  async startWithin(transaction: unknown, newRun: NewRun): Promise<StartWithin> {
    const { queryRunner, run } = await this.within(transaction);
    // Without the lock: it would be held for as long as the caller's transaction is open.
    const refusal = this.limiter.concerns([newRun]) && (await this.limiter.refusals(run, [newRun])).get(newRun);
    if (refusal) throw refusal;
    const [result] = await this.startOn(run, [newRun], NOBODY);
    // Told by the caller's own commit, for a hint that left earlier would find nothing; also to those who wait for the
    // result and have not seen the run yet.
    const hints = JSON.stringify({ queues: [newRun.queue], ended: [result!.id] });
    await run(this.sql.announce, [this.channel, hints]);
    return { result: result!, isUncommitted: () => queryRunner.isTransactionActive };
  }

  private async within(transaction: unknown): Promise<{ queryRunner: QueryRunner; run: Run }> {
    const queryRunner = openTransactionOf(transaction);
    const run = await Database.within(queryRunner);
    await this.checkTransaction(run);
    return { queryRunner, run };
  }

  /** Where others' commits are not seen, a key that was taken meanwhile would not be either. */
  private async checkTransaction(run: Run): Promise<void> {
    const [row] = await run<{ level: string; ours: boolean }>(this.sql.describeTransaction, []);
    if (!row!.ours) {
      throw wrongManager(
        `there is no "${this.database.schema}".run in its database: it is not the database of the engine`,
      );
    }
    if (row!.level !== 'read committed') {
      throw wrongManager(
        `its transaction is ${row!.level}, and READ COMMITTED is required: under another level a key that was taken meanwhile would not be seen`,
      );
    }
  }

  /** `keyPatienceMs`: how long to wait for a transaction that holds a key; undefined: as the transaction has it. */
  private async startOn(
    run: Run,
    runs: readonly NewRun[],
    placement: Placement,
    keyPatienceMs?: number,
  ): Promise<StartResult[]> {
    interface StartedRow {
      id: string;
      status: RunStatus;
      deadline: number | null;
      at: number;
    }
    const parameters = [
      ...NEW_RUNS.parameters(runs.map((newRun) => newRunToRow(newRun, this.serializer))),
      placement.workerId ?? null,
      placement.definitions.map(toSqlText),
      keyPatienceMs?.toString() ?? null,
    ];
    const inserted = new Map((await run<StartedRow>(this.sql.insertRuns, parameters)).map((row) => [row.id, row]));
    const results = runs.map((newRun): StartResult | undefined => {
      const row = inserted.get(newRun.id);
      return (
        row && {
          id: row.id,
          started: true,
          status: row.status,
          inputDigest: newRun.inputDigest,
          at: row.at,
          deadline: row.deadline,
        }
      );
    });
    await this.findThoseThatWereThere(run, runs, results);
    const [first] = inserted.values();
    if (first) this.clock.synchronise(first.at);
    return results as StartResult[];
  }

  private async findThoseThatWereThere(
    run: Run,
    runs: readonly NewRun[],
    results: (StartOutcome | undefined)[],
    expected: 'surely' | 'perhaps' = 'surely',
  ): Promise<void> {
    const missing = runs.flatMap((newRun, index) => (results[index] ? [] : [{ newRun, index }]));
    if (missing.length === 0) return;
    const rows = await run<{
      position: number;
      id: string;
      status: RunStatus;
      input_digest: string;
      deadline: number | null;
      at: number;
    }>(this.sql.findStarted, [
      missing.map(({ newRun }) => newRun.id),
      missing.map(({ newRun }) => toSqlText(newRun.workflow)),
      missing.map(({ newRun }) => nullable(newRun.key)),
    ]);
    for (const row of rows) {
      const { newRun, index } = missing[row.position - 1]!;
      results[index] = {
        id: row.id,
        started: row.id === newRun.id,
        status: row.status,
        inputDigest: this.serializer.isDigest(row.input_digest, newRun.inputDigest)
          ? newRun.inputDigest
          : row.input_digest,
        at: row.at,
        deadline: row.deadline,
      };
    }
    const gone = missing.find(({ index }) => !results[index]);
    if (gone && expected === 'surely')
      throw new Error(
        `The run with the key '${gone.newRun.key}' was deleted while it was started again; start it once more`,
      );
  }

  // ---- claiming

  async claim({ workerId, queues, definitions, limit }: ClaimRequest): Promise<ClaimedRun[]> {
    const rows = await this.worked(() =>
      this.database.run<ClaimRow>(this.sql.claimRuns, [
        workerId,
        queues.map(toSqlText),
        definitions.map(toSqlText),
        limit,
      ]),
    );
    if (rows[0]) this.clock.synchronise(rows[0].at);
    return rows.map(claimFromRow);
  }

  async loadRun(runId: string): Promise<(ClaimedRun & { status: RunStatus }) | undefined> {
    if (!isUuid(runId)) return undefined;
    const [row] = await this.called(() =>
      this.database.run<ClaimRow & { status: RunStatus }>(this.sql.loadRun, [runId]),
    );
    return row && { ...claimFromRow(row), status: row.status };
  }

  async loadHistories(runIds: readonly string[]): Promise<Map<string, RecordedRun>> {
    const recorded = new Map<string, RecordedRun>(runIds.map((id) => [id, { outcomes: [], children: [] }]));
    const outcomes = await this.worked(() => this.database.run<OutcomeRow>(this.sql.loadOutcomes, [runIds]));
    for (const row of outcomes) recorded.get(row.run_id)!.outcomes.push(outcomeFromRow(row));
    const children = await this.worked(() => this.database.run<ChildRow>(this.sql.loadChildren, [runIds]));
    for (const row of children) recorded.get(row.parent_id)!.children.push(childFromRow(row));
    return recorded;
  }

  async loadEnds(runIds: readonly string[]): Promise<RunEnd[]> {
    return (await this.worked(() => this.database.run<RunEndRow>(this.sql.loadEnds, [runIds]))).map(endFromRow);
  }

  // ---- committing

  commit(writes: readonly RunWrite[], placement: Placement): Promise<CommitResult> {
    return this.worked(() => this.commitOn(this.database.run, writes, placement));
  }

  commitWithEffects(write: RunWrite, placement: Placement): Promise<CommitResult> {
    return this.worked(() =>
      this.database.transaction(async (run) => {
        const { runId, epoch, effects } = write;
        // Before the write itself, whose new children take over the refs.
        if (effects!.supersedes.length) await run(this.sql.supersedeRuns, [effects!.supersedes, runId, epoch]);
        const result = await this.commitOn(run, [write], placement);
        const [owned] = result.runs;
        if (owned) {
          result.readyOn = await this.awaitEnds(run, runId, effects!);
          result.cancelled = await this.applyEffects(run, write, effects!, owned.status);
        }
        if (write.move?.to === 'continued' && !owned?.cancel) await this.continueRun(run, write, result);
        return result;
      }),
    );
  }

  private async continueRun(run: Run, { runId, epoch, move, effects }: RunWrite, result: CommitResult): Promise<void> {
    const input = move?.to === 'continued' ? move.input : null;
    const values = [runId, input, effects!.continues!.generation, epoch];
    const [row] = await run<GenerationRow>(this.sql.continueRun, values);
    if (!row) return;
    const { worker_id, started_at, ...facts } = row;
    const next = { ...facts, workerId: worker_id, startedAt: started_at };
    result.runs = [{ id: runId, status: 'running', wakes: row.wakes, cancel: null, watched: false, next }];
  }

  /** Returns the queues on which what is waited for can be claimed. */
  private async awaitEnds(run: Run, runId: string, { awaits, watches }: Effects): Promise<string[]> {
    interface Awaited {
      ready_on: string | null;
    }
    const children = awaits.length ? await run<Awaited>(this.sql.awaitChildren, [runId, awaits]) : [];
    const others = watches.length ? await run<Awaited>(this.sql.watchRuns, [runId, watches]) : [];
    return queuesOf([...children, ...others]);
  }

  private async applyEffects(
    run: Run,
    write: RunWrite,
    effects: Effects,
    status: RunStatus,
  ): Promise<CancelResult | null> {
    const { runId } = write;
    await this.inputs.applyEffects(run, write, effects);
    if (effects.compensation) await run(this.sql.markCompensation, [runId, effects.compensation]);
    const cancels = [...effects.cancels];
    if (effects.closesChildren && (status === 'completed' || status === 'failed')) {
      const closing = await run<{ id: string }>(this.sql.closingChildren, [runId]);
      cancels.push({ runIds: closing.map(({ id }) => id), reason: `its parent ended (${status})` });
    }
    let cancelled: CancelResult | null = null;
    for (const { runIds, reason } of cancels) {
      if (runIds.length === 0) continue;
      const result = await this.canceller.cancel(run, runIds, { reason, terminate: false });
      cancelled = cancelled ? mergeCancels(cancelled, result) : result;
    }
    return cancelled;
  }

  private async commitOn(run: Run, writes: readonly RunWrite[], placement: Placement): Promise<CommitResult> {
    const written = new Set(writes.map((write) => write.runId));
    const mayWake = new Set<string>();
    for (const { parentId, move } of writes)
      if (parentId && move && move.to !== 'waiting' && !written.has(parentId)) mayWake.add(parentId);
    const rows = await run<CommitRow>(this.sql.commitWrites, [
      ...WRITES.parameters([...writes.map(writeToRow), ...[...mayWake].map(toBeWokenRow)]),
      ...OUTCOMES.parameters(
        writes.flatMap((write) => write.outcomes.map((outcome) => outcomeToRow(write.runId, outcome))),
      ),
      ...CHILDREN.parameters(
        writes.flatMap((write) => write.children.map((child) => childToRow(child, this.serializer))),
      ),
      placement.workerId ?? null,
      placement.definitions.map(toSqlText),
      placement.resident,
    ]);
    return this.toCommitResult(rows, writes);
  }

  private toCommitResult(rows: CommitRow[], writes: readonly RunWrite[]): CommitResult {
    const result: CommitResult = {
      runs: [],
      woken: [],
      children: [],
      cancelled: null,
      readyOn: [],
      at: this.clock.now(),
    };
    const told = new Map<string, CommittedRun>();
    let owned = 0;
    for (const row of rows) {
      if (row.tag === 'all') {
        result.at = row.at!;
        owned = row.wakes!;
      } else if (row.tag === 'own') {
        told.set(row.id, {
          id: row.id,
          status: row.status,
          wakes: row.wakes!,
          watched: row.watched!,
          cancel: cancelFromRow(row.cancel_requested_at, row.cancel_reason),
          next: undefined,
        });
      } else if (row.tag === 'woken') {
        result.woken.push(wokenFromRow(row as WokenRow));
      } else {
        result.children.push({ id: row.id, status: row.status, deadline: row.deadline });
      }
    }
    for (const write of writes) {
      const run = told.get(write.runId) ?? (owned === writes.length ? movedAsAsked(write) : undefined);
      if (run) result.runs.push(run);
    }
    this.clock.synchronise(result.at);
    return result;
  }

  async keepHeartbeats(heartbeats: readonly Heartbeat[]): Promise<void> {
    const parameters = HEARTBEATS.parameters(heartbeats.map(heartbeatToRow));
    await this.worked(() => this.database.run(this.sql.keepHeartbeats, parameters));
  }

  // ---- pausing

  async setPaused(runId: string, paused: boolean): Promise<WokenRun | undefined> {
    if (!isUuid(runId)) return undefined;
    const rows = await this.called(() => this.database.run<WokenRow>(this.sql.setPaused, [runId, paused]));
    return rows.map(wokenFromRow)[0];
  }

  async giveUp(runId: string, epoch: number): Promise<WokenRun[]> {
    return (await this.worked(() => this.database.run<WokenRow>(this.sql.giveUpRun, [runId, epoch]))).map(wokenFromRow);
  }

  // ---- waking and cancelling

  async wakeDue(limit: number): Promise<WokenRun[]> {
    return (await this.worked(() => this.database.run<WokenRow>(this.sql.wakeDue, [limit]))).map(wokenFromRow);
  }

  async wake(runId: string): Promise<WokenRun[]> {
    return (await this.worked(() => this.database.run<WokenRow>(this.sql.wakeRuns, [[runId]]))).map(wokenFromRow);
  }

  cancel(runIds: readonly string[], request: CancelRequest): Promise<CancelResult> {
    return this.called(() =>
      this.database.transaction((run) => this.canceller.cancel(run, runIds.filter(isUuid), request)),
    );
  }

  retry(runId: string): Promise<{ status: RunStatus; retried: boolean; woken: WokenRun[] } | undefined> {
    if (!isUuid(runId)) return Promise.resolve(undefined);
    return this.called(() => this.database.transaction((run) => reopen(run, this.sql, this.serializer, runId)));
  }

  fork(request: ForkRequest): Promise<Fork | undefined> {
    if (!isUuid(request.runId)) return Promise.resolve(undefined);
    return this.called(() => this.database.transaction((run) => fork(run, this.sql, this.serializer, request)));
  }

  /** Repeated after a lost reply, it finds nothing more: then it was done. */
  delete(runId: string): Promise<Deletion | undefined> {
    if (!isUuid(runId)) return Promise.resolve(undefined);
    let mayBeDone: Deletion | undefined;
    return this.called(() =>
      this.database.transaction(async (run) => (mayBeDone = (await deleteFamily(run, this.sql, runId)) ?? mayBeDone)),
    );
  }

  // ---- signals

  signal(signals: readonly NewSignal[]): Promise<SentSignal[]> {
    return this.called(() => this.signals.send(this.database.run, signals));
  }

  async signalWithin(transaction: unknown, signal: NewSignal): Promise<SentSignal> {
    return this.signals.sendAtCommit((await this.within(transaction)).run, signal);
  }

  startWithSignal({ run: newRun, signal, isRefused }: StartWithSignal, placement: Placement) {
    return this.called(() =>
      this.database.transaction(async (run) => {
        const [outcome] = await this.startLimited(run, [newRun], placement, true);
        if ('refusal' in outcome!) throw outcome.refusal;
        const start = outcome!;
        const [sent] = isRefused(start) ? [] : await this.signals.send(run, [{ ...signal, runId: start.id }]);
        return { start, sent };
      }),
    );
  }

  loadSignals(wanted: readonly SignalsWanted[]): Promise<SignalsFound[]> {
    return this.worked(() => this.signals.load(this.database.run, wanted));
  }

  findId(workflow: string, key: string): Promise<string | undefined> {
    return this.called(() => this.queries.findId(workflow, key));
  }

  idsBetween(first: string, last: string, limit: number): Promise<string[]> {
    return this.called(() => this.queries.idsBetween(first, last, limit));
  }

  // ---- workers

  async registerWorker(worker: WorkerRegistration): Promise<void> {
    const { id, host, pid, leaseMs, queues, definitions } = worker;
    const [row] = await this.worked(() =>
      this.database.run<{ at: number }>(this.sql.registerWorker, [
        id,
        host,
        pid,
        leaseMs,
        queues.map(toSqlText),
        definitions.map(toSqlText),
      ]),
    );
    this.clock.synchronise(row!.at);
  }

  async beat({ workerId, queues, definitions, renewByMs, executing }: BeatRequest): Promise<Beat> {
    const runIds = executing.map(({ id }) => id);
    const epochs = executing.map(({ epoch }) => epoch);
    const [row] = await this.worked(() =>
      this.database.run<BeatRow>(this.sql.beat, [
        workerId,
        queues.map(toSqlText),
        definitions.map(toSqlText),
        renewByMs,
        runIds,
        epochs,
      ]),
    );
    const { alive, ready, gates, next_wake_at, next_tick_at, expired_workers, lost, attention, at } = row!;
    this.clock.synchronise(at);
    return {
      alive,
      ready,
      gates: gates.map((gate) => ({ ...gate, queue: fromSqlText(gate.queue) })),
      nextWakeAt: next_wake_at,
      nextTickAt: next_tick_at,
      expiredWorkers: expired_workers,
      lost,
      attention: attention.map((run) => ({
        id: run.id,
        wakes: run.wakes,
        paused: run.paused,
        cancel: cancelFromRow(run.cancelRequestedAt, run.cancelReason),
      })),
    };
  }

  async takeOver(limit: number): Promise<{ runs: WokenRun[]; more: boolean }> {
    const runs = (await this.worked(() => this.database.run<WokenRow>(this.sql.takeOver, [limit]))).map(wokenFromRow);
    const more = runs.length === limit;
    if (!more) await this.worked(() => this.database.transaction((run) => this.removeExpired(run)));
    return { runs, more };
  }

  /** First the lock, then the look for what is left: a run that a worker was just making its own is seen. */
  private async removeExpired(run: Run): Promise<void> {
    const expired = await run<{ id: string }>(this.sql.lockExpired, []);
    if (expired.length) await run(this.sql.removeExpired, [expired.map(({ id }) => id)]);
  }

  async handBack(workerId: string, { except }: { except: readonly string[] }): Promise<WokenRun[]> {
    return (await this.worked(() => this.database.run<WokenRow>(this.sql.handBack, [workerId, except]))).map(
      wokenFromRow,
    );
  }

  /** The worker goes first: the removal waits for what it was just making its own, and then that is handed back too. */
  retire(workerId: string): Promise<WokenRun[]> {
    return this.worked(() =>
      this.database.transaction(async (run) => {
        await run(this.sql.removeWorker, [workerId]);
        return (await run<WokenRow>(this.sql.handBack, [workerId, []])).map(wokenFromRow);
      }),
    );
  }

  async liveDefinitions(): Promise<{ workflow: string; version: number }[]> {
    const rows = await this.called(() => this.database.run<{ definition: string }>(this.sql.liveDefinitions, []));
    return rows.map(({ definition }) => definitionFromText(definition));
  }

  // ---- watching and hints

  /** First the mark, then the look: an end in between is seen, a later one announced. */
  async watch(runIds: readonly string[]): Promise<Watched> {
    const known = runIds.filter(isUuid);
    const active = await this.called(() =>
      this.database.run<{ id: string; ready_on: string | null }>(this.sql.markWatched, [known]),
    );
    const ends = (await this.called(() => this.database.run<RunEndRow>(this.sql.loadEnds, [known]))).map(endFromRow);
    const seen = new Set([...active, ...ends].map(({ id }) => id));
    return { ends, unknown: runIds.filter((id) => !seen.has(id)), readyOn: queuesOf(active) };
  }

  async announce({ queues, workers, ended, gates }: Hints): Promise<void> {
    for (let from = 0; from === 0 || from < ended.length; from += LARGEST_HINT) {
      const hints = from === 0 ? { queues, workers, gates } : {};
      await this.quietly(() =>
        this.database.run(this.sql.announce, [
          this.channel,
          JSON.stringify({ ...hints, ended: ended.slice(from, from + LARGEST_HINT) }),
        ]),
      );
    }
  }

  onHints(listener: (hints: Hints) => void): void {
    this.listener.onHints(listener);
  }

  onTrouble(listener: () => void): void {
    this.database.onTrouble(listener);
  }

  // ---- looking

  hasCodedPayloads(): Promise<boolean> {
    return this.called(() => this.queries.hasCodedPayloads());
  }

  exists(runId: string): Promise<boolean> {
    return this.called(() => this.queries.exists(runId));
  }

  get(runId: string): Promise<RunDetails | undefined> {
    return this.called(() => this.queries.get(runId));
  }

  findByKey(workflow: string, key: string): Promise<RunDetails | undefined> {
    return this.called(() => this.queries.findByKey(workflow, key));
  }

  history(runId: string): Promise<HistoryEntry[]> {
    return this.called(() => this.queries.history(runId));
  }

  outline(runId: string, limit: number): Promise<ExplainedEntry[]> {
    return this.called(() => this.queries.outline(runId, limit));
  }

  tree(runId: string): Promise<RunTree | undefined> {
    return this.called(() => this.queries.tree(runId));
  }

  matching(filter: Omit<ListFilter, 'limit'>, limit: number): Promise<string[]> {
    return this.called(() => this.queries.matching(filter, limit));
  }

  stats(): Promise<Stats> {
    return this.called(() => this.statistics.stats());
  }

  health(worker: Pick<BeatRequest, 'queues' | 'definitions'> | undefined): Promise<FleetHealth> {
    return this.called(() => this.statistics.health(worker));
  }

  workers(): Promise<WorkerInfo[]> {
    return this.called(() => this.statistics.workers());
  }

  list(filter: ListFilter): Promise<Page<RunSummary>> {
    return this.called(() => this.queries.list(filter));
  }

  private called<T>(work: () => Promise<T>): Promise<T> {
    return this.database.persistently(work, CALL_PATIENCE_MS);
  }

  private worked<T>(work: () => Promise<T>): Promise<T> {
    return this.database.persistently(work);
  }

  /** A hint is worth no trouble. */
  private async quietly(work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (error instanceof OrchestrationError) throw error;
    }
  }
}

interface CommitRow {
  tag: 'all' | 'own' | 'woken' | 'child';
  id: string;
  status: RunStatus;
  wakes: number | null;
  epoch: number | null;
  queue: string | null;
  worker_id: string | null;
  watched: boolean | null;
  cancel_requested_at: number | null;
  cancel_reason: string | null;
  deadline: number | null;
  at: number | null;
}

interface GenerationRow {
  worker_id: string | null;
  generation: number;
  epoch: number;
  wakes: number;
  started_at: number;
}

interface RunEndRow {
  id: string;
  workflow: string;
  status: TerminalStatus;
  output: string | null;
  error: string | null;
}

interface BeatRow {
  alive: boolean;
  ready: boolean;
  gates: Gate[];
  next_wake_at: number | null;
  next_tick_at: number | null;
  expired_workers: boolean;
  lost: string[];
  attention: {
    id: string;
    wakes: number;
    cancelRequestedAt: number | null;
    cancelReason: string | null;
    paused: boolean;
  }[];
  at: number;
}

function endFromRow({ id, workflow, status, output, error }: RunEndRow): RunEnd {
  return { id, workflow: fromSqlText(workflow), status, output, error };
}

function mergeCancels(one: CancelResult, other: CancelResult): CancelResult {
  return {
    found: one.found || other.found,
    ended: [...one.ended, ...other.ended],
    unwinding: [...one.unwinding, ...other.unwinding],
    woken: [...one.woken, ...other.woken],
  };
}

function openTransactionOf(manager: unknown): QueryRunner {
  const queryRunner = (manager as EntityManager | null | undefined)?.queryRunner;
  if (queryRunner?.isTransactionActive) return queryRunner;
  throw wrongManager(
    'it must be the EntityManager of an open transaction (dataSource.transaction(async (manager) => …))',
  );
}

function wrongManager(message: string): ValidationError {
  return new ValidationError('manager', [{ message, path: ['manager'] }]);
}

/** What became of an owned write of which the database had nothing to say. */
function movedAsAsked({ runId, move, seenWakes }: RunWrite): CommittedRun {
  const status = move && move.to !== 'continued' ? move.to : 'running';
  return { id: runId, status, wakes: seenWakes, cancel: null, watched: false, next: undefined };
}

function queuesOf(runs: readonly { ready_on: string | null }[]): string[] {
  return [...new Set(runs.flatMap(({ ready_on: queue }) => (queue === null ? [] : [fromSqlText(queue)])))];
}

function pollsOnly(address: string): string {
  return (
    `No notification came through the connection to ${address}, as behind a pooler in transaction mode. Everything works, but what other ` +
    'processes do is found by looking, up to a pollInterval later. Give listenUrl a direct connection to be told at once.'
  );
}
