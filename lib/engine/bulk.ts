import type { Engine } from './engine.js';
import { ValidationError } from './errors.js';
import type { RunStatus } from './run.js';
import type { ListFilter } from './run-queries.js';

export type BulkAction = 'cancel' | 'retry' | 'delete';

/** The filter of `orchestrator.list` without its paging. */
export type BulkFilter = Omit<ListFilter, 'limit' | 'cursor'>;

export interface BulkRequest {
  /** Which runs. One that names nothing is refused: `'all'` says that all are meant. */
  filter: BulkFilter | 'all';
  /**
   * `'cancel'`: active runs. `'retry'`: failed and blocked ones, and cancelled ones if the filter's `status` names them.
   * `'delete'`: finished ones, with their descendants.
   */
  action: BulkAction;
}

export interface BulkOptions {
  /** Only counts. */
  dryRun?: boolean;
  /** Called after each batch with what was done so far. */
  onProgress?: (soFar: Readonly<BulkResult>) => void;
}

export interface BulkResult {
  /** Runs that the filter matches and the action is for. */
  matched: number;
  /** Those that it was done to; the others had changed meanwhile, or an active run needs them. */
  done: number;
}

/** Of which status runs must be. */
const STATUSES: Record<BulkAction, { unnamed: RunStatus[]; named: RunStatus[] }> = {
  cancel: both('pending', 'running', 'waiting', 'blocked'),
  retry: { unnamed: ['failed', 'blocked'], named: ['failed', 'blocked', 'cancelled'] },
  delete: both('completed', 'failed', 'cancelled'),
};
const PAGE = 100;
const COUNTED_AT_ONCE = 10_000;

/**
 * Goes through the runs that there are when it begins, the newest first, in pages. What it has done no longer matches, so after an
 * interruption the same call goes on.
 */
export async function bulk(engine: Engine, request: BulkRequest, options: BulkOptions): Promise<BulkResult> {
  check(request, options);
  const filter = filterOf(request);
  if (filter === undefined) return { matched: 0, done: 0 };
  if (options.dryRun) return { matched: await count(engine, filter), done: 0 };
  const result: BulkResult = { matched: 0, done: 0 };
  for (let cursor: string | undefined, more = true; more;) {
    const ids = await engine.store.runs.matching({ ...filter, cursor }, PAGE);
    result.matched += ids.length;
    result.done += await act(engine, request.action, ids);
    options.onProgress?.(result);
    cursor = ids.at(-1);
    more = ids.length === PAGE;
  }
  return result;
}

async function count(engine: Engine, filter: BulkFilter): Promise<number> {
  let matched = 0;
  for (let cursor: string | undefined, more = true; more;) {
    const ids = await engine.store.runs.matching({ ...filter, cursor }, COUNTED_AT_ONCE);
    matched += ids.length;
    cursor = ids.at(-1);
    more = ids.length === COUNTED_AT_ONCE;
  }
  return matched;
}

async function act(engine: Engine, action: BulkAction, ids: readonly string[]): Promise<number> {
  if (action === 'cancel') return engine.cancelAll(ids);
  let done = 0;
  for (const id of ids) if (await (action === 'retry' ? retry(engine, id) : remove(engine, id))) done++;
  return done;
}

async function retry(engine: Engine, runId: string): Promise<boolean> {
  const result = await engine.store.retry(runId);
  if (result?.retried) engine.woken(result.woken);
  return result?.retried ?? false;
}

/** Its root may have been deleted before it, and it with that. */
async function remove(engine: Engine, runId: string): Promise<boolean> {
  const deletion = await engine.store.delete(runId);
  return deletion?.hindrance === undefined;
}

/** Undefined: no status that the filter names is one that the action is for. */
function filterOf({ filter, action }: BulkRequest): BulkFilter | undefined {
  if (filter === 'all') return { status: STATUSES[action].unnamed };
  if (filter.status === undefined) return { ...filter, status: STATUSES[action].unnamed };
  const status = [filter.status].flat().filter((one) => STATUSES[action].named.includes(one));
  return status.length ? { ...filter, status } : undefined;
}

function check(request: BulkRequest, options: BulkOptions): void {
  const { filter, action } = request;
  const issues: { message: string; path: string[] }[] = [
    ...unknown(request, ['filter', 'action']),
    ...unknown(options, ['dryRun', 'onProgress']),
    ...paging(filter),
  ];
  if (!Object.hasOwn(STATUSES, action))
    issues.push({
      message: `action must be one of cancel, retry, delete, not ${JSON.stringify(action)}`,
      path: ['action'],
    });
  if (filter !== 'all' && (typeof filter !== 'object' || filter === null))
    issues.push({ message: `filter must be a filter or 'all', not ${JSON.stringify(filter)}`, path: ['filter'] });
  else if (filter !== 'all' && Object.values(filter).every((value) => value === undefined))
    issues.push({
      message: "the filter names nothing, and would match every run: say filter: 'all' if that is meant",
      path: ['filter'],
    });
  if (issues.length) throw new ValidationError('orchestrator.bulk', issues);
}

function paging(filter: BulkRequest['filter']) {
  return ['limit', 'cursor']
    .filter((field) => typeof filter === 'object' && filter !== null && field in filter)
    .map((field) => ({ message: `a bulk has no pages: leave ${field} out`, path: ['filter', field] }));
}

function unknown(given: object, known: string[]) {
  return Object.keys(given)
    .filter((option) => !known.includes(option))
    .map((option) => ({ message: `unknown option '${option}' (known: ${known.join(', ')})`, path: [option] }));
}

function both(...statuses: RunStatus[]): { unnamed: RunStatus[]; named: RunStatus[] } {
  return { unnamed: statuses, named: statuses };
}
