import { randomBytes } from 'node:crypto';

import pg from 'pg';

/** A database of one test file (or of one test), on the server of the test run. */
export interface TestDatabase {
  name: string;
  /** For the test's own questions: always the server itself. */
  url: string;
  /** For apps: the same, but through the pooler where the test run has one. */
  appUrl: string;
  /** That of `appUrl`, as TypeORM connection options. */
  connection: TestConnection;
  /** Removes it, also from under connections that are still open. */
  drop(): Promise<void>;
}

export interface TestConnection {
  type: 'postgres';
  host: string;
  port: number;
  username: string;
  password: string;
  database: string;
}

const PREFIX = 'orchestration_test_';
const LEFTOVER_AFTER_MS = 60 * 60_000;

/** A fresh, empty database, to be dropped in `afterAll`. */
export async function createTestDatabase(): Promise<TestDatabase> {
  const server = testServerUrl();
  const name = PREFIX + [Date.now().toString(36), process.pid.toString(36), randomBytes(4).toString('hex')].join('_');
  await administrate(server, (client) => client.query(`create database ${name} template template0`));
  const appUrl = urlOf(process.env.ORCHESTRATION_TEST_POOLER ?? server, name);
  return {
    name,
    url: urlOf(server, name),
    appUrl,
    connection: connectionTo(appUrl),
    drop: () => dropDatabase(server, name),
  };
}

/** The server's own database, for questions about all databases. */
export function testServerUrl(): string {
  const url = process.env.ORCHESTRATION_TEST_SERVER;
  if (!url)
    throw new Error('ORCHESTRATION_TEST_SERVER is not set: the global set-up of jest starts the database server.');
  return url;
}

/** What test runs that were killed left on a server which outlives them. The name tells when it was made. */
export async function dropLeftoverDatabases(server: string): Promise<void> {
  const { rows } = await administrate(server, (client) =>
    client.query<{ datname: string }>('select datname from pg_database where starts_with(datname, $1)', [PREFIX]),
  );
  const leftovers = rows
    .map(({ datname }) => datname)
    .filter((name) => Date.now() - createdAt(name) > LEFTOVER_AFTER_MS);
  for (const name of leftovers) await dropDatabase(server, name);
}

function createdAt(name: string): number {
  return Number.parseInt(name.slice(PREFIX.length), 36);
}

async function dropDatabase(server: string, name: string): Promise<void> {
  await administrate(server, (client) => client.query(`drop database if exists ${name} with (force)`));
}

async function administrate<T>(server: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: server });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

function urlOf(server: string, database: string): string {
  const url = new URL(server);
  url.pathname = `/${database}`;
  return url.href;
}

/** TypeORM connection options for that URL. */
export function connectionTo(databaseUrl: string): TestConnection {
  const url = new URL(databaseUrl);
  return {
    type: 'postgres',
    host: url.hostname,
    port: Number(url.port || 5432),
    username: decodeURIComponent(url.username),
    password: decodeURIComponent(url.password),
    database: url.pathname.slice(1),
  };
}
