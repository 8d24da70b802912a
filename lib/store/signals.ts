import { newId } from '../engine/new-id.js';
import type { RunStatus } from '../engine/run.js';
import { toSqlText } from '../engine/serialization.js';
import type { NewSignal, SentSignal, SignalsFound, SignalsWanted } from '../engine/sent-signal.js';
import type { Run } from './database.js';
import { isUuid } from './is-uuid.js';
import { wokenFromRow, type WokenRow } from './rows.js';
import type { Statements } from './statements/all.js';
import { NEW_SIGNALS, WANTED_SIGNALS } from './statements/signal.sql.js';

interface SentRow extends WokenRow {
  position: number;
  outcome: SentSignal['outcome'];
  sent_at: number;
}

interface SignalRow {
  position: number;
  id: string;
  seq: number;
  payload: string | null;
  for_waits: boolean;
  has_more: boolean;
  sent_at: number;
}

/** What of a `waiting_for` tells that the run waits for that signal. In a text within that JSON the quotes would be escaped. */
const waitIn = (name: string) => JSON.stringify({ kind: 'signal', name }).slice(0, -1) + ',';

/** Sends signals and loads those that were not received. Each member runs inside a transaction, or a statement, of the caller's. */
export class Signals {
  constructor(private readonly sql: Statements) {}

  /** One statement for those to single runs, and one for those to trees, if there are any. */
  async send(run: Run, signals: readonly NewSignal[]): Promise<SentSignal[]> {
    const rows = signals.map((signal, position) => toRow(signal, position)).filter(({ run_id }) => isUuid(run_id));
    const toRuns = rows.filter(({ tree_wait }) => tree_wait === null);
    const toTrees = rows.filter(({ tree_wait }) => tree_wait !== null);
    const sent: SentRow[] = [];
    if (toRuns.length) sent.push(...(await run<SentRow>(this.sql.sendSignals, NEW_SIGNALS.parameters(toRuns))));
    if (toTrees.length)
      sent.push(...(await run<SentRow>(this.sql.sendSignalsToTrees, NEW_SIGNALS.parameters(toTrees))));
    return signals.map((signal, position) =>
      resultOf(
        signal,
        sent.filter((row) => row.position === position),
      ),
    );
  }

  /** Sends it when the transaction commits. */
  async sendAtCommit(run: Run, signal: NewSignal): Promise<SentSignal> {
    if (!isUuid(signal.runId)) return UNKNOWN;
    const { run_id, id, name, payload, tree_wait } = toRow(signal, 0);
    const [row] = await run<{ status: RunStatus; outcome: SentSignal['outcome'] }>(this.sql.sendAtCommit, [
      newId(),
      ...[run_id, id, name, payload, tree_wait],
    ]);
    return row ? { outcome: row.outcome, status: row.status, received: undefined, woken: [] } : UNKNOWN;
  }

  async load(run: Run, wanted: readonly SignalsWanted[]): Promise<SignalsFound[]> {
    const rows = await run<SignalRow>(
      this.sql.loadSignals,
      WANTED_SIGNALS.parameters(
        wanted.map(({ runId, name, afterSeq }, position) => ({
          position,
          run_id: runId,
          name: toSqlText(name),
          after_seq: afterSeq,
        })),
      ),
    );
    const found = wanted.map((): SignalsFound => ({ signals: [], hasMore: false }));
    for (const { position, id, seq, payload, sent_at, for_waits, has_more } of rows) {
      const { name } = wanted[position]!;
      found[position]!.signals.push({ id, seq, name, payload, sentAt: sent_at, forWaits: for_waits });
      found[position]!.hasMore = has_more;
    }
    return found;
  }
}

const UNKNOWN: SentSignal = { outcome: 'unknown', status: undefined, received: undefined, woken: [] };

function toRow({ runId, id, name, payload, toTree }: NewSignal, position: number) {
  return {
    position,
    run_id: runId,
    id: toSqlText(id),
    name: toSqlText(name),
    payload,
    tree_wait: toTree ? waitIn(name) : null,
  };
}

function resultOf({ runId, id, name, payload }: NewSignal, rows: readonly SentRow[]): SentSignal {
  const addressed = rows.find((row) => row.id === runId.toLowerCase());
  if (!addressed) return UNKNOWN;
  const { outcome, status, wakes, sent_at } = addressed;
  const signal = { id: toSqlText(id), seq: wakes, name, payload, sentAt: sent_at, forWaits: false };
  const received = outcome === 'sent' ? { run: wokenFromRow(addressed), signal } : undefined;
  const woken = rows.filter((row) => row !== addressed && row.outcome === 'sent').map(wokenFromRow);
  return { outcome, status, received, woken };
}
