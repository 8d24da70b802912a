import type { Database } from './database.js';
import { UP } from './migrations/1763600000000-create-tables.js';
import { quoteIdentifier } from './statements/statement.js';

export interface Index {
  name: string;
  /** What makes it. */
  statement: string;
}

/** The indexes that the migrations and the primary keys of the entities make. */
export function expectedIndexes({ dataSource, schema }: Pick<Database, 'dataSource' | 'schema'>): Index[] {
  const quoted = quoteIdentifier(schema);
  const keys = dataSource.entityMetadatas.map(({ tableName, primaryColumns }) => {
    const columns = primaryColumns.map(({ databaseName }) => databaseName).join(', ');
    const name = `${tableName}_pkey`;
    return { name, statement: `alter table ${quoted}.${tableName} add constraint ${name} primary key (${columns})` };
  });
  const made = UP.flatMap((statement) => {
    const name = /^create (?:unique )?index (\w+)/.exec(statement)?.[1];
    return name === undefined ? [] : [{ name, statement: statement.replaceAll('@schema', () => quoted) }];
  });
  return [...keys, ...made];
}
