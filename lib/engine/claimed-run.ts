import type { CancelMark } from './cancellation.js';
import type { Attributes } from './run.js';
import type { Ancestor } from './seed.js';

export interface ClaimRequest {
  workerId: string;
  queues: readonly string[];
  definitions: readonly string[];
  limit: number;
}

export interface ClaimedRun {
  id: string;
  workflow: string;
  version: number;
  key: string | null;
  queue: string;
  priority: number;
  tenant: string | null;
  attributes: Attributes;
  input: string | null;
  context: string | null;
  trace: string | null;
  parentId: string | null;
  parentAwaits: boolean;
  rootId: string;
  depth: number;
  epoch: number;
  wakes: number;
  recoveries: number;
  /** How often it has continued as new. */
  generation: number;
  /** Of a fork: whose history it shares, the oldest first. */
  ancestors: Ancestor[] | null;
  /** When its history begins: the run's start, its continuation, or the beginning of the history that it shares. */
  startedAt: number;
  /** When it was last retried after its end. */
  retriedAt: number | null;
  deadline: number | null;
  cancel: CancelMark | null;
  /** Never begun before: it has no history. */
  fresh: boolean;
  /** Since when it could have been claimed; null: it was begun at once. */
  readyAt: number | null;
}
