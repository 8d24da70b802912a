import { setTimeout as delay } from 'node:timers/promises';
import { type CallerContext, outside } from './caller-context.js';
import { DatabaseClock } from './clock.js';
import type { Engine } from './engine.js';
import { NonDeterminismError, RunNotFoundError, WorkflowNotRegisteredError } from './errors.js';
import type { ExecutionHost } from './execution-host.js';
import { nearMiss } from './near-miss.js';
import { RunExecution } from './run-execution.js';
import type { WorkflowRegistry } from './registry.js';
import type { PayloadSerializer } from './serialization.js';
import type { ClaimedRun } from './claimed-run.js';
import type { RecordedRun } from './recorded-run.js';
import type { Move } from './run-write.js';
import type { Store } from './store.js';
import { reviveError } from './stored-error.js';
import type { WriteBuffer } from './write-buffer.js';

/** How long code that has received all that is recorded may take to return; as long as replay waits for its calls. */
const PATIENCE_MS = 1_000;
const LOOK_MS = 10;

/**
 * Replays what is recorded of a run against the code of this process, whatever the run's status: throws what would block
 * the run, and also when the code of a completed run would not complete. The run is not touched: it is not claimed, nothing
 * is written, and no step's body begins.
 * @throws NonDeterminismError, UnreadablePayloadError (its stored form), RunNotFoundError, WorkflowNotRegisteredError
 */
export async function checkReplay(engine: Engine, runId: string): Promise<void> {
  const run = await engine.store.loadRun(runId);
  if (!run) throw new RunNotFoundError(runId);
  const definition = engine.registry.get(run.workflow, run.version);
  if (!definition) {
    const id = `${run.workflow}@${run.version}`;
    throw new WorkflowNotRegisteredError(id, nearMiss(id, engine.registry.ids()), false);
  }
  if (run.fresh) return;
  const recorded = (await engine.store.loadHistories([runId])).get(runId)!;
  const host = new ReadOnlyHost(engine, timeOf(run, recorded));
  // Its deadline and a cancellation have been received by its code only where the history says so.
  const execution = new RunExecution({ ...run, deadline: null, cancel: null }, definition, recorded, host);
  try {
    await outside(() => execution.replay());
    const move = run.status === 'completed' ? await host.lastMove() : host.move;
    refuseBlocked(move, engine);
    if (run.status === 'completed' && move?.to !== 'completed') throw notCompleted(recorded, move, engine);
  } finally {
    execution.drop('The replay is over');
  }
}

/** When the code received the last outcome. */
function timeOf(run: ClaimedRun, { outcomes }: RecordedRun): number {
  return outcomes.reduce((latest, { finishedAt }) => Math.max(latest, finishedAt), run.startedAt);
}

function refuseBlocked(move: Move | undefined, { serializer }: Engine): void {
  if (move?.to !== 'blocked') return;
  const stored = serializer.decodeError(move.error);
  if (stored.name !== NonDeterminismError.name) throw reviveError(stored);
  const { seq, expected, found } = stored as unknown as NonDeterminismError;
  throw new NonDeterminismError(seq, expected, found);
}

function notCompleted({ outcomes }: RecordedRun, move: Move | undefined, { serializer }: Engine): NonDeterminismError {
  const after = outcomes.reduce((last, { seq }) => Math.max(last, seq), 0);
  const found =
    move && 'error' in move
      ? `ended with ${serializer.decodeError(move.error).name}: ${serializer.decodeError(move.error).message}`
      : 'goes on';
  return new NonDeterminismError(after + 1, 'the completion of the run', found);
}

/** Executes a run for its replay: what is asked of the host is not done, and what is written stays where it is. */
class ReadOnlyHost implements ExecutionHost {
  readonly clock: DatabaseClock;
  readonly transactions = undefined;
  readonly telemetry = undefined;
  readonly heartbeats = { add: () => {} };
  /** No step's body begins. */
  readonly isDraining = true;
  private buffer: WriteBuffer | undefined;

  constructor(
    private readonly engine: Engine,
    time: number,
  ) {
    this.clock = new StandingClock(time);
  }

  /** How the run would move on by now. */
  get move(): Move | undefined {
    return this.buffer?.next?.move ?? undefined;
  }

  /** How it would move on once its code has had time to return. */
  async lastMove(): Promise<Move | undefined> {
    for (const patience = Date.now() + PATIENCE_MS; !this.isOver && Date.now() < patience;) await delay(LOOK_MS);
    return this.move;
  }

  private get isOver(): boolean {
    return this.move !== undefined && this.move.to !== 'waiting';
  }

  get serializer(): PayloadSerializer {
    return this.engine.serializer;
  }

  get registry(): WorkflowRegistry {
    return this.engine.registry;
  }

  get callerContext(): CallerContext | undefined {
    return this.engine.callerContext;
  }

  get store(): Store {
    return this.engine.store;
  }

  enqueue(buffer: WriteBuffer): void {
    this.buffer = buffer;
  }

  cancel = never;
  resolveVersion = never;
  lookUp = never;
  loadSignals = never;
  signal = never;
  checkExists(): void {}
  wake(): void {}
  ends(): void {}
  endRefused(): void {}
  brokenOff(): void {}
  parked(): void {}
  paused(): void {}
  left(): void {}
  continued(): void {}
  committed(): void {}
  warn(): void {}
}

function never(): Promise<never> {
  return new Promise(() => {});
}

/** Nothing becomes due while the history is replayed. */
class StandingClock extends DatabaseClock {
  constructor(private readonly time: number) {
    super();
  }

  override now(): number {
    return this.time;
  }
}
