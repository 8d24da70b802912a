import type { DatabaseClock } from '../engine/clock.js';
import type { FleetHealth } from '../engine/health.js';
import type { RunStatus } from '../engine/run.js';
import { type PayloadSerializer, toSqlText } from '../engine/serialization.js';
import type { Stats } from '../engine/statistics.js';
import type { CancelRequest, CancelResult } from '../engine/cancellation.js';
import type { ClaimRequest, ClaimedRun } from '../engine/claimed-run.js';
import type { NewRun, Placement, StartOutcome, StartResult, StartWithin } from '../engine/new-run.js';
import type { Heartbeat, RecordedRun } from '../engine/recorded-run.js';
import type { CommitResult, RunWrite } from '../engine/run-write.js';
import type { NewSignal, SentSignal, SignalsFound, SignalsWanted, StartWithSignal } from '../engine/sent-signal.js';
import type { Deletion, Fork, ForkRequest, RunEnd, Store, Watched, WokenRun } from '../engine/store.js';
import type { BeatRequest } from '../engine/worker-store.js';
import { type CallerTransaction, enterTransaction } from './caller-transaction.js';
import { Canceller } from './canceller.js';
import { Commits, queuesOf } from './commits.js';
import type { Database, Run } from './database.js';
import { deleteFamily } from './delete-family.js';
import { fork } from './fork.js';
import { isUuid } from './is-uuid.js';
import { KeyedStarts } from './keyed-starts.js';
import { NotifyChannel } from './notify-channel.js';
import { QueuesOnTypeOrm } from './queue-store.js';
import { reopen } from './reopen.js';
import {
  childFromRow,
  type ChildRow,
  claimFromRow,
  type ClaimRow,
  endFromRow,
  type EndRow,
  heartbeatToRow,
  outcomeFromRow,
  type OutcomeRow,
  wokenFromRow,
  type WokenRow,
} from './rows.js';
import { StoredSchedules } from './schedules.js';
import { Signals } from './signals.js';
import { type StartLimit, StartLimiter } from './start-limiter.js';
import { Starts } from './starts.js';
import { allStatements, type Statements } from './statements/all.js';
import { HEARTBEATS } from './statements/heartbeat.sql.js';
import { Statistics } from './statistics.js';
import { StoredRetention } from './stored-retention.js';
import { StoredWorkers } from './stored-workers.js';
import { isLockTimeout } from './transient-errors.js';
import { TypeOrmInputStore } from './typeorm-input-store.js';
import { TypeOrmRunQueries } from './typeorm-run-queries.js';

/**
 * The store on PostgreSQL. Each member is one transition of runs, done by one statement or in one transaction, and done again while
 * the database is away: for a caller up to a limit (`called`, `inTransaction`), for a worker until it works (`worked`).
 */
export class TypeOrmStore implements Store {
  readonly hints: NotifyChannel;
  readonly workers: StoredWorkers;
  readonly runs: TypeOrmRunQueries;
  readonly inputs: TypeOrmInputStore;
  readonly queues: QueuesOnTypeOrm;
  readonly schedules: StoredSchedules;
  readonly retention: StoredRetention;
  private readonly sql: Statements;
  private readonly starts: Starts;
  private readonly keyedStarts: KeyedStarts;
  private readonly commits: Commits;
  private readonly canceller: Canceller;
  private readonly signals: Signals;
  private readonly statistics: Statistics;

  constructor(
    private readonly database: Database,
    private readonly serializer: PayloadSerializer,
    private readonly clock: DatabaseClock,
    startLimit?: StartLimit,
  ) {
    const sql = allStatements(database.schema);
    this.sql = sql;
    this.hints = new NotifyChannel(database, sql);
    this.workers = new StoredWorkers(database, sql, clock);
    this.runs = new TypeOrmRunQueries(database, serializer, clock);
    this.inputs = new TypeOrmInputStore(database, sql, this.hints);
    this.queues = new QueuesOnTypeOrm(database, sql, clock);
    this.schedules = new StoredSchedules(database, sql, serializer);
    this.retention = new StoredRetention(database, sql);
    this.canceller = new Canceller(sql, serializer);
    this.starts = new Starts(sql, serializer, clock, new StartLimiter(sql, clock, database.schema, startLimit));
    this.keyedStarts = new KeyedStarts(sql, this.canceller, this.starts);
    this.commits = new Commits(sql, serializer, clock, { canceller: this.canceller, inputs: this.inputs });
    this.signals = new Signals(sql);
    this.statistics = new Statistics(database, sql);
  }

  async close(): Promise<void> {
    this.hints.close();
    await this.database.close();
  }

  onTrouble(listener: () => void): void {
    this.database.onTrouble(listener);
  }

  // ---- starting

  start(runs: readonly NewRun[], placement: Placement, together: boolean): Promise<StartOutcome[]> {
    return this.called(async (onPool, isRepeated) => {
      const start = (run: Run) => this.starts.start(run, runs, { placement, together, isRepeated });
      try {
        return await (this.starts.areLimited(runs) ? this.database.transaction(start) : start(onPool));
      } catch (error) {
        throw runs.length > 1 && isLockTimeout(error) ? new Error('One of the keys is held', { cause: error }) : error;
      }
    });
  }

  startReplacing(newRun: NewRun): Promise<{ start: StartResult; cancelled: CancelResult | null }> {
    return this.inTransaction((run) => this.keyedStarts.replace(run, newRun));
  }

  startDebounced(newRun: NewRun): Promise<StartResult> {
    return this.inTransaction((run) => this.keyedStarts.debounce(run, newRun));
  }

  async startWithin(manager: unknown, newRun: NewRun): Promise<StartWithin> {
    const { run, isOpen } = await this.enter(manager);
    const result = await this.starts.startUncommitted(run, newRun);
    // Also to those who wait for the result and have not seen the run yet.
    await this.hints.announceAtCommit(run, { queues: [newRun.queue], ended: [result.id] });
    return { result, isUncommitted: isOpen };
  }

  fork(request: ForkRequest): Promise<Fork | undefined> {
    if (!isUuid(request.runId)) return Promise.resolve(undefined);
    return this.inTransaction(async (run) => {
      await this.starts.admitFork(run, request);
      return fork(run, this.sql, this.serializer, request);
    });
  }

  // ---- claiming

  async claim({ workerId, queues, definitions, limit }: ClaimRequest): Promise<ClaimedRun[]> {
    const parameters = [workerId, queues.map(toSqlText), definitions.map(toSqlText), limit];
    const rows = await this.worked((run) => run<ClaimRow>(this.sql.claimRuns, parameters));
    if (rows[0]) this.clock.synchronise(rows[0].at);
    return rows.map(claimFromRow);
  }

  async loadRun(runId: string): Promise<(ClaimedRun & { status: RunStatus }) | undefined> {
    if (!isUuid(runId)) return undefined;
    const [row] = await this.called((run) => run<ClaimRow & { status: RunStatus }>(this.sql.loadRun, [runId]));
    return row && { ...claimFromRow(row), status: row.status };
  }

  async loadHistories(runIds: readonly string[]): Promise<Map<string, RecordedRun>> {
    const recorded = new Map<string, RecordedRun>(runIds.map((id) => [id, { outcomes: [], children: [] }]));
    const outcomes = await this.worked((run) => run<OutcomeRow>(this.sql.loadOutcomes, [runIds]));
    for (const row of outcomes) recorded.get(runIds[(row.position ?? 1) - 1]!)!.outcomes.push(outcomeFromRow(row));
    const children = await this.worked((run) => run<ChildRow>(this.sql.loadChildren, [runIds]));
    for (const row of children) recorded.get(row.parent_id)!.children.push(childFromRow(row));
    return recorded;
  }

  async loadEnds(runIds: readonly string[]): Promise<RunEnd[]> {
    return (await this.worked((run) => run<EndRow>(this.sql.loadEnds, [runIds]))).map(endFromRow);
  }

  // ---- committing

  commit(writes: readonly RunWrite[], placement: Placement): Promise<CommitResult> {
    return this.worked((run, isRepeated) => this.commits.write(run, writes, { placement, isRepeated }));
  }

  commitWithEffects(write: RunWrite, placement: Placement): Promise<CommitResult> {
    return this.worked((_, isRepeated) =>
      this.database.transaction((run) => this.commits.writeWithEffects(run, write, { placement, isRepeated })),
    );
  }

  async keepHeartbeats(heartbeats: readonly Heartbeat[]): Promise<void> {
    const parameters = HEARTBEATS.parameters(heartbeats.map(heartbeatToRow));
    await this.worked((run) => run(this.sql.keepHeartbeats, parameters));
  }

  // ---- waking and pausing

  async wakeDue(limit: number): Promise<WokenRun[]> {
    return (await this.worked((run) => run<WokenRow>(this.sql.wakeDue, [limit]))).map(wokenFromRow);
  }

  async wake(runId: string): Promise<WokenRun[]> {
    return (await this.worked((run) => run<WokenRow>(this.sql.wakeRuns, [[runId]]))).map(wokenFromRow);
  }

  async setPaused(runId: string, paused: boolean): Promise<WokenRun | undefined> {
    if (!isUuid(runId)) return undefined;
    const rows = await this.called((run) => run<WokenRow>(this.sql.setPaused, [runId, paused]));
    return rows.map(wokenFromRow)[0];
  }

  async giveUp(runId: string, epoch: number): Promise<WokenRun[]> {
    return (await this.worked((run) => run<WokenRow>(this.sql.giveUpRun, [runId, epoch]))).map(wokenFromRow);
  }

  // ---- what operators do

  cancel(runIds: readonly string[], request: CancelRequest): Promise<CancelResult> {
    return this.inTransaction((run) => this.canceller.cancel(run, runIds.filter(isUuid), request));
  }

  retry(runId: string): Promise<{ status: RunStatus; retried: boolean; woken: WokenRun[] } | undefined> {
    if (!isUuid(runId)) return Promise.resolve(undefined);
    return this.inTransaction((run) => reopen(run, this.sql, this.serializer, runId));
  }

  /** Repeated after a lost reply, it finds nothing more: then it was done. */
  delete(runId: string): Promise<Deletion | undefined> {
    if (!isUuid(runId)) return Promise.resolve(undefined);
    let mayBeDone: Deletion | undefined;
    return this.inTransaction(async (run) => (mayBeDone = (await deleteFamily(run, this.sql, runId)) ?? mayBeDone));
  }

  // ---- signals

  signal(signals: readonly NewSignal[]): Promise<SentSignal[]> {
    return this.called((run) => this.signals.send(run, signals));
  }

  async signalWithin(manager: unknown, signal: NewSignal): Promise<SentSignal> {
    const { run } = await this.enter(manager);
    return this.signals.sendAtCommit(run, signal);
  }

  startWithSignal({ run: newRun, signal, isRefused }: StartWithSignal, placement: Placement) {
    return this.inTransaction(async (run, isRepeated) => {
      const [outcome] = await this.starts.start(run, [newRun], { placement, together: true, isRepeated });
      if ('refusal' in outcome!) throw outcome.refusal;
      const start = outcome!;
      const [sent] = isRefused(start) ? [] : await this.signals.send(run, [{ ...signal, runId: start.id }]);
      return { start, sent };
    });
  }

  loadSignals(wanted: readonly SignalsWanted[]): Promise<SignalsFound[]> {
    return this.worked((run) => this.signals.load(run, wanted));
  }

  // ---- watching

  /** First the mark, then the look: an end in between is seen, a later one announced. */
  async watch(runIds: readonly string[]): Promise<Watched> {
    const known = runIds.filter(isUuid);
    const active = await this.called((run) =>
      run<{ id: string; ready_on: string | null }>(this.sql.markWatched, [known]),
    );
    const ends = (await this.called((run) => run<EndRow>(this.sql.loadEnds, [known]))).map(endFromRow);
    const seen = new Set([...active, ...ends].map(({ id }) => id));
    return { ends, unknown: runIds.filter((id) => !seen.has(id)), readyOn: queuesOf(active) };
  }

  stats(): Promise<Stats> {
    return this.called(() => this.statistics.stats());
  }

  health(worker: Pick<BeatRequest, 'queues' | 'definitions'> | undefined): Promise<FleetHealth> {
    return this.called(() => this.statistics.health(worker));
  }

  // ---- how often

  private enter(manager: unknown): Promise<CallerTransaction> {
    return enterTransaction(manager, { database: this.database, sql: this.sql });
  }

  private called<T>(work: (run: Run, isRepeated: boolean) => Promise<T>): Promise<T> {
    return this.database.patiently((isRepeated) => work(this.database.run, isRepeated));
  }

  private inTransaction<T>(work: (run: Run, isRepeated: boolean) => Promise<T>): Promise<T> {
    return this.database.patiently((isRepeated) => this.database.transaction((run) => work(run, isRepeated)));
  }

  private worked<T>(work: (run: Run, isRepeated: boolean) => Promise<T>): Promise<T> {
    return this.database.persistently((isRepeated) => work(this.database.run, isRepeated));
  }
}
