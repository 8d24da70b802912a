import type { ExplainedEntry } from './explain.js';
import type { Attributes, HistoryEntry, Page, RunDetails, RunStatus, RunSummary, RunTree } from './run.js';

/** What people and services look at: no transitions, no hot path. */
export interface RunQueries {
  exists(runId: string): Promise<boolean>;
  get(runId: string): Promise<RunDetails | undefined>;
  findByKey(workflow: string, key: string): Promise<RunDetails | undefined>;
  /** The id of the run with that key. */
  findId(workflow: string, key: string): Promise<string | undefined>;
  /** Ids of runs from the first to the last, in their order, up to `limit`. */
  idsBetween(first: string, last: string, limit: number): Promise<string[]>;
  history(runId: string): Promise<HistoryEntry[]>;
  /** The first entries of a history, without their payloads. */
  outline(runId: string, limit: number): Promise<ExplainedEntry[]>;
  tree(runId: string): Promise<RunTree | undefined>;
  list(filter: ListFilter): Promise<Page<RunSummary>>;
  /** Ids of up to `limit` runs, as `list` would give them. */
  matching(filter: Omit<ListFilter, 'limit'>, limit: number): Promise<string[]>;
  /** Whether a payload of one of the newest runs went through a codec. */
  haveCodedPayloads(): Promise<boolean>;
}

/** The filter of `orchestrator.list`. */
export interface ListFilter {
  workflow?: string;
  version?: number;
  status?: RunStatus | readonly RunStatus[];
  queue?: string;
  tenant?: string;
  /** Runs that have all of these. */
  attributes?: Attributes;
  parentId?: string;
  rootOnly?: boolean;
  createdAfter?: Date;
  createdBefore?: Date;
  /** A run id, or a part of a key or label. */
  search?: string;
  /** 1 to 1,000; default 50. */
  limit?: number;
  cursor?: string;
}
