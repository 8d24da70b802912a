import type { InjectionToken } from '@nestjs/common';
import type { ModuleRef } from '@nestjs/core';
import { DataSource } from 'typeorm';
import { embeddedPostgres } from '../embedded/embedded-postgres.js';
import { DefinitionError, EmbeddedDatabaseError } from '../engine/errors.js';
import type { PostgresOptions } from '../store/database.js';
import type { OrchestrationModuleOptions } from './module-options.js';

/**
 * Which database: the one that the options name; else the app's default TypeORM DataSource, if it is PostgreSQL; else the
 * embedded one, which production refuses.
 */
export async function connectionFor(
  { dataSource, connection }: OrchestrationModuleOptions,
  moduleRef: ModuleRef,
): Promise<PostgresOptions> {
  if (connection) return connection;
  if (dataSource !== undefined) return named(dataSource, moduleRef);
  const appDataSource = find(moduleRef, DataSource);
  if (appDataSource?.options.type === 'postgres') return appDataSource.options;
  if (process.env['NODE_ENV'] === 'production') {
    throw new EmbeddedDatabaseError(
      'No database is configured, and the embedded PostgreSQL is not for production (NODE_ENV=production). ' +
        "Give OrchestrationModule.forRoot a `dataSource` (a TypeORM DataSource of the app) or a `connection` ({ type: 'postgres', url }).",
    );
  }
  return embeddedPostgres();
}

function named(dataSource: string | InjectionToken | DataSource, moduleRef: ModuleRef): PostgresOptions {
  const found = isDataSource(dataSource)
    ? dataSource
    : tokensOf(dataSource)
        .map((token) => find(moduleRef, token))
        .find((one) => one !== undefined);
  if (!found)
    throw new DefinitionError([
      `forRoot: there is no TypeORM DataSource ${typeof dataSource === 'string' ? `'${dataSource}'` : 'with that token'} in the app`,
    ]);
  if (found.options.type !== 'postgres')
    throw new DefinitionError([
      `forRoot: the DataSource is of type '${found.options.type}', and only 'postgres' is supported`,
    ]);
  return found.options;
}

/** The tokens under which @nestjs/typeorm registers a DataSource of that name. */
function tokensOf(dataSource: string | InjectionToken): InjectionToken[] {
  if (dataSource === 'default') return [DataSource];
  return typeof dataSource === 'string' ? [`${dataSource}DataSource`, dataSource] : [dataSource];
}

function find(moduleRef: ModuleRef, token: InjectionToken): DataSource | undefined {
  try {
    const found: unknown = moduleRef.get(token as never, { strict: false });
    return isDataSource(found) ? found : undefined;
  } catch {
    return undefined;
  }
}

/** Told by its shape: the app may have another copy of typeorm. */
function isDataSource(value: unknown): value is DataSource {
  return typeof value === 'object' && value !== null && 'options' in value && 'driver' in value;
}
