import { setTimeout as delay } from 'node:timers/promises';

import pg from 'pg';

import { testServerUrl, type TestDatabase } from './database.js';

/** What a database was asked to do between two points. */
export interface Measurement {
  /** Transactions that were committed, those of a single statement included. */
  commits: number;
  /** Statements that were run, `begin` and `commit` included. */
  statements: number;
  /** How often, by the text of the statement. */
  byQuery: Map<string, number>;
  /** Each of them, as it was sent. */
  sent: { text: string; values: readonly unknown[] }[];
}

/**
 * Counts what this process asks of the database while `work` runs: every statement that the server reported as ended,
 * read off the wire of every `pg` connection, whoever opened it. Exact, at once, and on any server. Connections opened
 * before this module was loaded are not seen; nor is what other processes do, for which there are `countCommitsOnServer` and
 * `countStatementsOnServer`.
 */
export async function measure(database: TestDatabase, work: () => Promise<unknown>): Promise<Measurement> {
  const recorder = new Recorder(database.name);
  recorders.add(recorder);
  try {
    await work();
  } finally {
    recorders.delete(recorder);
  }
  return recorder;
}

class Recorder implements Measurement {
  commits = 0;
  statements = 0;
  byQuery = new Map<string, number>();
  sent: Measurement['sent'] = [];

  constructor(readonly database: string) {}

  countStatement(text: string, values: readonly unknown[]): void {
    this.statements += 1;
    this.sent.push({ text, values });
    this.byQuery.set(text, (this.byQuery.get(text) ?? 0) + 1);
  }
}

const recorders = new Set<Recorder>();

/** What is known of a connection. A connection runs one query at a time, so the last text sent is the one that ends. */
interface ObservedConnection {
  database: string;
  text: string;
  values: readonly unknown[];
  textByName: Map<string, string>;
  /** Whether the statements since the server was last ready, taken together, are a commit if they leave no transaction open. */
  mayCommit: boolean;
}

const observed = new WeakMap<pg.Connection, ObservedConnection>();

/** The members of a pg connection that statements pass through; @types/pg does not list them all. */
interface WireConnection extends pg.Connection {
  startup(config: { database?: string; user: string }): void;
}

/**
 * `pg` hands every message it sends to a method of its connection and emits an event for every one it receives.
 * Observed on the prototype, hence for every client and pool, TypeORM's as well.
 */
function observeConnections(prototype: WireConnection): void {
  intercept(prototype, 'startup', (connection, config) =>
    observed.set(connection, {
      database: config.database ?? config.user,
      text: '',
      values: [],
      textByName: new Map(),
      mayCommit: false,
    }),
  );
  intercept(prototype, 'query', (connection, text) => noteText(connection, text, []));
  intercept(prototype, 'parse', (connection, { name, text }) =>
    observed.get(connection)?.textByName.set(name ?? '', text),
  );
  intercept(prototype, 'bind', (connection, config) =>
    noteText(connection, observed.get(connection)?.textByName.get(config?.statement ?? ''), config?.values ?? []),
  );
  intercept(prototype, 'emit', (connection, event, message: unknown) => noteEvent(connection, event, message));
}

function noteText(connection: pg.Connection, text: string | undefined, values: readonly unknown[]): void {
  const state = observed.get(connection);
  if (state) Object.assign(state, { text: text ?? state.text, values });
}

function noteEvent(connection: pg.Connection, event: string | symbol, message: unknown): void {
  const state = observed.get(connection);
  if (!state) return;
  const interested = [...recorders].filter((recorder) => recorder.database === state.database);
  if (event === 'commandComplete' || event === 'errorMessage' || event === 'emptyQuery') {
    state.mayCommit = event === 'commandComplete' && fieldOf(message, 'text') !== 'ROLLBACK';
    // An error ends the session's start as well as a statement.
    if (state.text !== '') interested.forEach((recorder) => recorder.countStatement(state.text, state.values));
  }
  if (event === 'readyForQuery') {
    if (state.mayCommit && fieldOf(message, 'status') === 'I')
      interested.forEach((recorder) => (recorder.commits += 1));
    state.mayCommit = false;
  }
}

function fieldOf(message: unknown, name: string): unknown {
  return typeof message === 'object' && message !== null ? Reflect.get(message, name) : undefined;
}

type Method = 'startup' | 'query' | 'parse' | 'bind' | 'emit';

function intercept<Name extends Method>(
  prototype: WireConnection,
  name: Name,
  before: (connection: WireConnection, ...parameters: Parameters<WireConnection[Name]>) => void,
): void {
  const original = prototype[name] as (...parameters: unknown[]) => unknown;
  Object.defineProperty(prototype, name, {
    configurable: true,
    writable: true,
    value(this: WireConnection, ...parameters: Parameters<WireConnection[Name]>) {
      before(this, ...parameters);
      return original.apply(this, parameters);
    },
  });
}

observeConnections(pg.Connection.prototype as WireConnection);

/**
 * Commits in the database while `work` runs, by all processes, from pg_stat_database; opening a connection counts as one.
 * Slow: a server process reports what it did after 10 s of idleness at the latest, or when its connection ends.
 */
export async function countCommitsOnServer(database: TestDatabase, work: () => Promise<unknown>): Promise<number> {
  return askServer(async (client) => {
    const before = await readSettledCommits(client, database);
    await work();
    return (await readSettledCommits(client, database)) - before;
  });
}

const REPORTED_AFTER_MS = 11_000;

async function readSettledCommits(client: pg.Client, { name }: TestDatabase): Promise<number> {
  const giveUpAt = Date.now() + REPORTED_AFTER_MS;
  // Who is never idle for so long reports once a second as he goes.
  while (Date.now() < giveUpAt && (await hasUnreportedSessions(client, name))) await delay(100);
  const { rows } = await client.query<{ commits: string }>(
    'select xact_commit as commits from pg_stat_database where datname = $1',
    [name],
  );
  return Number(rows[0]?.commits);
}

async function hasUnreportedSessions(client: pg.Client, name: string): Promise<boolean> {
  const { rowCount } = await client.query(
    `select from pg_stat_activity
     where datname = $1 and backend_type = 'client backend'
       and (state <> 'idle' or state_change > now() - make_interval(secs => $2))`,
    [name, REPORTED_AFTER_MS / 1000],
  );
  return rowCount !== 0;
}

/**
 * How often each statement was run in the database while `work` ran, by all processes, from pg_stat_statements: constants
 * are replaced by `$1`, `begin` and `commit` are included. Undefined where the server has not loaded that library.
 */
export async function countStatementsOnServer(
  database: TestDatabase,
  work: () => Promise<unknown>,
): Promise<Map<string, number> | undefined> {
  return askServer(async (client) => {
    if (!(await hasStatementStatistics(client))) return undefined;
    const before = await readStatementCounts(client, database);
    await work();
    const after = await readStatementCounts(client, database);
    const added = [...after].map(([query, count]) => [query, count - (before.get(query) ?? 0)] as const);
    return new Map(added.filter(([, count]) => count > 0));
  });
}

/** Whether `countStatementsOnServer` can count on this server. */
export async function canCountStatementsOnServer(): Promise<boolean> {
  return askServer(hasStatementStatistics);
}

async function hasStatementStatistics(client: pg.Client): Promise<boolean> {
  const { rows } = await client.query<{ shared_preload_libraries: string }>('show shared_preload_libraries');
  if (!rows[0]?.shared_preload_libraries.includes('pg_stat_statements')) return false;
  // "if not exists" is no protection against another test file doing the same at this moment.
  await client.query('create extension if not exists pg_stat_statements').catch(() => undefined);
  return true;
}

async function readStatementCounts(client: pg.Client, { name }: TestDatabase): Promise<Map<string, number>> {
  const { rows } = await client.query<{ query: string; calls: string }>(
    `select query, sum(calls) as calls
     from pg_stat_statements join pg_database on pg_database.oid = dbid
     where datname = $1
     group by query`,
    [name],
  );
  return new Map(rows.map(({ query, calls }) => [query, Number(calls)]));
}

async function askServer<T>(work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: testServerUrl() });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}
