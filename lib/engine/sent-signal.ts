import type { NewRun, StartResult } from './new-run.js';
import type { RunStatus } from './run.js';
import type { WokenRun } from './store.js';

/** A signal that is sent. */
export interface NewSignal {
  runId: string;
  /** Whatever has the same id is the same signal of that run. */
  id: string;
  name: string;
  payload: string | null;
  /** Also to live descendants that wait for it. */
  toTree: boolean;
}

/** What became of a signal: `finished` and `unknown` runs take none. */
export interface SentSignal {
  outcome: 'sent' | 'repeated' | 'finished' | 'unknown';
  status: RunStatus | undefined;
  /** The addressed run, woken, and what it has got. */
  received: { run: WokenRun; signal: BufferedSignal } | undefined;
  /** Descendants that it was sent to as well. */
  woken: WokenRun[];
}

/** A signal that a run has got. */
export interface BufferedSignal {
  /** As it is stored. */
  id: string;
  /** The run's count of wakes with this signal: the order in which its signals were sent. */
  seq: number;
  name: string;
  payload: string | null;
  sentAt: number;
  /** Only a wait that had begun when it was sent takes it. */
  forWaits: boolean;
}

export interface StartWithSignal {
  run: NewRun;
  /** Its `runId` is that of the new run. */
  signal: NewSignal;
  isRefused(start: StartResult): boolean;
}

export interface SignalsWanted {
  runId: string;
  name: string;
  afterSeq: number;
}

export interface SignalsFound {
  signals: BufferedSignal[];
  hasMore: boolean;
}
