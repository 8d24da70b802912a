import type { DataSource } from 'typeorm';
import type { InputFilter, PendingInput } from '../engine/input-store.js';
import type { Page } from '../engine/run.js';
import { fromSqlText, toSqlText } from '../engine/serialization.js';
import { InputEntity } from './entities/input.entity.js';
import { RunEntity } from './entities/run.entity.js';
import { isUuid } from './is-uuid.js';
import { checkFilter, date, type Form, LIMIT, limit, text } from './list-filter.js';
import { IS_OPEN } from './statements/input.sql.js';
import { quoteIdentifier } from './statements/statement.js';

/** What a page ends with: the next begins after it. */
type Place = [askedAt: number, runId: string, scope: string, name: string, ordinal: number];

const FORMS: Record<keyof InputFilter, Form> = {
  workflow: text,
  expiringBefore: date,
  limit,
  cursor: (value) => (placeOf(value) ? undefined : 'is none that inputs.list has given'),
};

/** What people can answer, the longest waiting first. */
export async function listInputs(
  dataSource: DataSource,
  schema: string,
  filter: InputFilter,
): Promise<Page<PendingInput>> {
  checkFilter('inputs.list', filter, FORMS);
  const { workflow, expiringBefore, cursor, limit: size = LIMIT.default } = filter;
  const query = dataSource
    .getRepository(InputEntity)
    .createQueryBuilder('i')
    .innerJoin(RunEntity, 'r', 'r.id = i.run_id and r.finished_at is null')
    .where(IS_OPEN.replaceAll('@schema', () => quoteIdentifier(schema)))
    .orderBy({ 'i.askedAt': 'ASC', 'i.runId': 'ASC', 'i.scope': 'ASC', 'i.name': 'ASC', 'i.ordinal': 'ASC' })
    .limit(size + 1);
  if (workflow !== undefined) query.andWhere('i.workflow = :workflow', { workflow: toSqlText(workflow) });
  if (expiringBefore) query.andWhere('i.expires_at < :expiringBefore', { expiringBefore });
  if (cursor !== undefined) {
    const [askedAt, runId, scope, name, ordinal] = placeOf(cursor)!;
    query.andWhere('(i.asked_at, i.run_id, i.scope, i.name, i.ordinal) > (:askedAt, :runId, :scope, :name, :ordinal)', {
      askedAt: new Date(askedAt),
      runId,
      scope,
      name,
      ordinal,
    });
  }
  const rows = await query.getMany();
  const last = rows.length > size ? rows[size - 1] : undefined;
  return { items: rows.slice(0, size).map(toPending), nextCursor: last && cursorAt(last) };
}

function toPending(row: InputEntity): PendingInput {
  return {
    runId: row.runId,
    workflow: fromSqlText(row.workflow),
    name: fromSqlText(row.name),
    type: row.type,
    prompt: row.prompt === null ? undefined : fromSqlText(row.prompt),
    choices: choicesFromRow(row.choices) ?? undefined,
    expiresAt: row.expiresAt ?? undefined,
  };
}

/** JSON escapes what PostgreSQL's text does not hold. */
export function choicesFromRow(choices: string | null): string[] | null {
  return choices === null ? null : (JSON.parse(choices) as string[]);
}

function cursorAt({ askedAt, runId, scope, name, ordinal }: InputEntity): string {
  const place: Place = [askedAt.getTime(), runId, scope, name, ordinal];
  return Buffer.from(JSON.stringify(place)).toString('base64url');
}

function placeOf(cursor: unknown): Place | undefined {
  try {
    const place = JSON.parse(Buffer.from(String(cursor), 'base64url').toString()) as Place;
    const [askedAt, runId, scope, name, ordinal] = place;
    const isPlace =
      Number.isInteger(askedAt) && isUuid(runId) && [scope, name].every((part) => typeof part === 'string');
    return isPlace && Number.isInteger(ordinal) ? place : undefined;
  } catch {
    return undefined;
  }
}
