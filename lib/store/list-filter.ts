import { types } from 'node:util';
import type { SelectQueryBuilder } from 'typeorm';
import type { DatabaseClock } from '../engine/clock.js';
import { ValidationError } from '../engine/errors.js';
import { RUN_STATUSES, type RunStatus } from '../engine/run.js';
import { toSqlText } from '../engine/serialization.js';
import { attributesProblem } from '../engine/start-options.js';
import type { ListFilter } from '../engine/run-queries.js';
import type { RunEntity } from './entities/run.entity.js';
import { isUuid } from './is-uuid.js';
import { leastIdAt } from './least-id.js';
import { attributesToRow } from './rows.js';

/** Two hosts' clocks may differ so much, and a list by times is still complete. */
const CLOCK_TOLERANCE_MS = 86_400_000;

export const LIMIT = { default: 50, largest: 1_000 };

/** Throws {@link ValidationError} for whatever is unknown or of a wrong form: nothing is ignored or cut. */
export function checkFilter<Filter extends object>(
  what: string,
  filter: Filter,
  forms: Record<keyof Filter & string, Form>,
): void {
  const issues = Object.entries(filter).flatMap(([field, value]: [string, unknown]) => {
    const form = Object.hasOwn(forms, field) ? forms[field as keyof Filter & string] : undefined;
    const problem = form ? value !== undefined && form(value) : `is unknown (known: ${Object.keys(forms).join(', ')})`;
    return problem ? [{ message: `${field} ${problem}`, path: [field] }] : [];
  });
  if (issues.length) throw new ValidationError(`The filter of ${what}`, issues);
}

export function applyFilter(query: SelectQueryBuilder<RunEntity>, filter: ListFilter, clock: DatabaseClock): void {
  const equal = { workflow: filter.workflow, queue: filter.queue, tenant: filter.tenant };
  for (const [column, value] of Object.entries(equal)) {
    if (value !== undefined) query.andWhere(`run.${column} = :${column}`, { [column]: toSqlText(value) });
  }
  if (filter.version !== undefined) query.andWhere('run.version = :version', { version: filter.version });
  if (filter.status !== undefined) applyStatus(query, [filter.status].flat());
  if (filter.parentId !== undefined) query.andWhere('run.parent_id = :parentId', { parentId: filter.parentId });
  if (filter.rootOnly) query.andWhere('run.parent_id is null');
  if (filter.attributes)
    query.andWhere('run.attributes @> :attributes', { attributes: attributesToRow(filter.attributes) });
  if (filter.createdAfter) query.andWhere('run.created_at >= :createdAfter', { createdAfter: filter.createdAfter });
  if (filter.createdBefore) query.andWhere('run.created_at < :createdBefore', { createdBefore: filter.createdBefore });
  applyIdRange(query, filter, clock);
  if (filter.cursor !== undefined) query.andWhere('run.id < :cursor', { cursor: filter.cursor });
  if (filter.search !== undefined) applySearch(query, filter.search);
}

/** `run_status` has no running runs, but each of them has a worker, and so an entry in `run_worker`. */
function applyStatus(query: SelectQueryBuilder<RunEntity>, statuses: readonly RunStatus[]): void {
  const ofWorkers = "(run.status = 'running' and run.worker_id is not null)";
  const others = statuses.filter((status) => status !== 'running');
  const either = [
    ...(others.length ? ['run.status in (:...others)'] : []),
    ...(statuses.length > others.length ? [ofWorkers] : []),
  ];
  query.andWhere(`(${either.join(' or ')})`, { others });
}

/** Ids have the time of the host that made them: with room for clocks that differ, times are a range of the primary key. */
function applyIdRange(
  query: SelectQueryBuilder<RunEntity>,
  { createdAfter, createdBefore }: ListFilter,
  clock: DatabaseClock,
): void {
  if (createdAfter) {
    // In a test bed the database's clock has been moved on, the further the later.
    const aheadMs = Math.max(0, clock.aheadMs());
    const firstId = leastIdAt(createdAfter.getTime() - aheadMs - CLOCK_TOLERANCE_MS);
    query.andWhere('run.id >= :firstId', { firstId });
  }
  if (createdBefore)
    query.andWhere('run.id < :lastId', { lastId: leastIdAt(createdBefore.getTime() + CLOCK_TOLERANCE_MS) });
}

function applySearch(query: SelectQueryBuilder<RunEntity>, search: string): void {
  if (isUuid(search)) query.andWhere('run.id = :search', { search });
  else
    query.andWhere('(strpos(run.key, :search) > 0 or strpos(run.label, :search) > 0)', { search: toSqlText(search) });
}

/** What is wrong with a value, or undefined. */
export type Form = (value: unknown) => string | undefined;

export const text: Form = (value) => (typeof value === 'string' ? undefined : 'must be a text');
const id: Form = (value) => (isUuid(value) ? undefined : `'${String(value)}' is no id`);
export const date: Form = (value) =>
  types.isDate(value) && !Number.isNaN(value.getTime()) ? undefined : 'must be a valid Date';

export const limit: Form = (value) =>
  Number.isInteger(value) && Number(value) >= 1 && Number(value) <= LIMIT.largest
    ? undefined
    : `must be 1 to ${LIMIT.largest}, not ${String(value)}`;

export const RUN_FILTER: Record<keyof ListFilter, Form> = {
  workflow: text,
  version: (value) => (Number.isInteger(value) ? undefined : `must be a whole number, not ${String(value)}`),
  status: (value) => {
    const statuses = [value].flat() as RunStatus[];
    const wrong = statuses.find((status) => !RUN_STATUSES.includes(status));
    return wrong === undefined && statuses.length
      ? undefined
      : `'${wrong ?? ''}' is none of ${RUN_STATUSES.join(', ')}`;
  },
  queue: text,
  tenant: text,
  attributes: attributesProblem,
  parentId: id,
  rootOnly: (value) => (typeof value === 'boolean' ? undefined : 'must be true or false'),
  createdAfter: date,
  createdBefore: date,
  search: text,
  limit,
  cursor: id,
};
