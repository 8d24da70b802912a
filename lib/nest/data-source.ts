import { format } from 'node:util';
import type { InjectionToken } from '@nestjs/common';
import type { ModuleRef } from '@nestjs/core';
import { DataSource } from 'typeorm';
import { embeddedPostgres } from '../embedded/embedded-postgres.js';
import { EmbeddedDatabaseError } from '../engine/errors.js';
import type { PostgresOptions } from '../store/database.js';
import type { OrchestrationModuleOptions } from './module-options.js';

/**
 * The app's TypeORM DataSource that the engine shares the database of: the one that the options name, else the default one,
 * if it is PostgreSQL. Undefined when the engine has a connection of its own, or there is none.
 */
export function dataSourceOf(
  { dataSource, connection }: OrchestrationModuleOptions,
  moduleRef: ModuleRef,
): DataSource | undefined {
  if (connection) return undefined;
  if (dataSource !== undefined) return named(dataSource, moduleRef);
  const appDataSource = find(moduleRef, DataSource);
  return appDataSource?.options.type === 'postgres' ? appDataSource : undefined;
}

/** Which database: the options' connection, else that of the app's DataSource, else the embedded one, which production refuses. */
export async function connectionFor(
  { connection }: OrchestrationModuleOptions,
  dataSource: DataSource | undefined,
): Promise<PostgresOptions> {
  if (connection) return connection;
  if (dataSource) return dataSource.options as PostgresOptions;
  if (process.env['NODE_ENV'] === 'production') {
    throw new EmbeddedDatabaseError(
      'No database is configured, and the embedded PostgreSQL is not for production (NODE_ENV=production). ' +
        "Give OrchestrationModule.forRoot a `dataSource` (a TypeORM DataSource of the app) or a `connection` ({ type: 'postgres', url }).",
    );
  }
  return embeddedPostgres();
}

/** What is wrong with the DataSource that the options name, for the report at boot. */
export function dataSourceProblems(
  { dataSource, connection }: OrchestrationModuleOptions,
  moduleRef: ModuleRef,
): string[] {
  if (connection || dataSource === undefined) return [];
  const found = named(dataSource, moduleRef);
  if (!found) {
    const name = typeof dataSource === 'function' ? dataSource.name : format('%s', dataSource);
    return [
      `forRoot: there is no TypeORM DataSource '${name}' in the app. Give the name that TypeOrmModule has it by, its token, or an instance`,
    ];
  }
  return found.options.type === 'postgres'
    ? []
    : [`forRoot: the DataSource is of type '${found.options.type}', and only 'postgres' is supported`];
}

function named(dataSource: string | InjectionToken | DataSource, moduleRef: ModuleRef): DataSource | undefined {
  if (isDataSource(dataSource)) return dataSource;
  return tokensOf(dataSource)
    .map((token) => find(moduleRef, token))
    .find((one) => one !== undefined);
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
