import type { WokenRun } from './store.js';

export interface CancelMark {
  reason: string | null;
  at: number;
}

export interface CancelRequest {
  reason: string | null;
  /** End at once without running user code. */
  terminate: boolean;
}

export interface CancelResult {
  found: boolean;
  /** Ended by the request itself. */
  ended: { id: string; watched: boolean; workflow: string; parentId: string | null; rootId: string; at: number }[];
  /** Their code still has to unwind. */
  unwinding: WokenRun[];
  /** Parents and watchers of those that ended. */
  woken: WokenRun[];
}
