import { setTimeout as delay } from 'node:timers/promises';
import pg, { type Pool, type PoolClient, type QueryConfig } from 'pg';
import { DataSource, type DataSourceOptions, type QueryRunner } from 'typeorm';
import { endsWithin } from '../engine/ends-within.js';
import { DatabaseUnavailableError } from '../engine/errors.js';
import { ArrayParameter } from './array-parameter.js';
import { HistoryEntity } from './entities/history.entity.js';
import { OutgoingSignalEntity } from './entities/outgoing-signal.entity.js';
import { InputEntity } from './entities/input.entity.js';
import { QueueClaimEntity } from './entities/queue-claim.entity.js';
import { QueueEntity } from './entities/queue.entity.js';
import { RetentionEntity } from './entities/retention.entity.js';
import { RunEntity } from './entities/run.entity.js';
import { SignalEntity } from './entities/signal.entity.js';
import { ScheduleEntity } from './entities/schedule.entity.js';
import { WatchEntity } from './entities/watch.entity.js';
import { WorkerEntity } from './entities/worker.entity.js';
import { CreateTables1763600000000 } from './migrations/1763600000000-create-tables.js';
import { Outage } from './outage.js';
import { PlanCache } from './plan-cache.js';
import type { Statement } from './statements/statement.js';
import type { ListeningClient } from './wake-up-listener.js';
import { isInDoubt, isOutage, isTaken, isTransient } from './transient-errors.js';

export type PostgresOptions = Extract<DataSourceOptions, { type: 'postgres' }>;
type Credentials = Pick<PostgresOptions, 'url' | 'host' | 'port' | 'username' | 'password' | 'database' | 'ssl'>;
export type Run = <Row>(statement: Statement, values: readonly unknown[]) => Promise<Row[]>;
/** `isRepeated`: it has failed before, and may have been committed all the same. */
type Repeatable<T> = (isRepeated: boolean) => Promise<T>;

/** How long what a user calls outlasts an absent database; the worker's own writes wait for ever. */
const CALL_PATIENCE_MS = 30_000;
/** Enough for the commit lanes, the starts, the claims, the heartbeat, the listener and some queries at a time. */
const POOL_SIZE = 8;
const CONNECT_TIMEOUT_MS = 5_000;
const CLOSE_TIMEOUT_MS = 5_000;
/**
 * Without the timeout a statement into a black hole hangs for ever; the connection is thrown away after it. One that only
 * listens is asked by the operating system whether it is still there, which by default begins after two hours.
 */
const NOTICES_SILENCE = { query_timeout: 15_000, keepAlive: true, keepAliveInitialDelayMillis: 2_000 };
const INSUFFICIENT_PRIVILEGE = '42501';
const BACKOFF_MS = { first: 20, longest: 2_000 };

/**
 * The engine's own small pool, through TypeORM, and the one place that sends statements. Connections that had an error
 * are closed, never reused (TypeORM's own query runner would give them back).
 */
export class Database {
  private isClosed = false;
  private readonly plans = new PlanCache();
  /** Behind a pooler in transaction mode each transaction may get another connection, which knows no statement of ours. */
  isPooled = false;
  private readonly troubleListeners: (() => void)[] = [];
  readonly outage: Outage;

  private constructor(
    readonly dataSource: DataSource,
    readonly schema: string,
  ) {
    this.outage = new Outage(this.address);
  }

  /** Connects. Throws {@link DatabaseUnavailableError} within seconds when that is not possible. */
  static async open(options: PostgresOptions, schema: string): Promise<Database> {
    try {
      const dataSource = new DataSource(engineOptions(options, schema));
      await dataSource.initialize();
      return new Database(dataSource, schema);
    } catch (error) {
      throw new DatabaseUnavailableError(addressOf(options), {
        cause: error,
        advice: hasForgottenUrl(options)
          ? 'Its url is undefined: is the environment variable set that it comes from?'
          : 'Is it running, and are the address, user and database of the connection right?',
      });
    }
  }

  get address(): string {
    return addressOf(this.dataSource.options as PostgresOptions);
  }

  onTrouble(listener: () => void): void {
    this.troubleListeners.push(listener);
  }

  /** Sends one prepared statement, which is its own transaction. */
  readonly run: Run = async <Row>(statement: Statement, values: readonly unknown[]): Promise<Row[]> => {
    return (await this.pool.query(this.prepare(statement, values))).rows as Row[];
  };

  /** Runs several statements in one READ COMMITTED transaction. */
  async transaction<T>(work: (run: Run) => Promise<T>): Promise<T> {
    const client = await this.pool.connect();
    let failure: Error | undefined;
    // A connection that breaks fails its statement, and without a listener would end the process, too.
    const onError = (error: Error) => (failure = error);
    client.on('error', onError);
    try {
      await client.query('begin isolation level read committed');
      const result = await work(runOn(client, (statement, values) => this.prepare(statement, values)));
      await client.query('commit');
      return result;
    } catch (error) {
      failure = error as Error;
      throw error;
    } finally {
      client.off('error', onError);
      // A connection whose transaction failed is not worth saving; closing it also ends the transaction.
      client.release(failure);
    }
  }

  /** Inside the caller's transaction, on the caller's connection, whose client may be another than node-postgres. */
  static async within(queryRunner: QueryRunner): Promise<Run> {
    return runOn((await queryRunner.connect()) as PoolClient, (statement, values) =>
      unprepared(
        statement,
        values.map((value) => (value instanceof ArrayParameter ? value.values : value)),
      ),
    );
  }

  /** For what a user calls (start, cancel, a query): it outlasts an absent database for a while. */
  patiently<T>(work: Repeatable<T>): Promise<T> {
    return this.persistently(work, CALL_PATIENCE_MS);
  }

  /**
   * Does it again while the database is away or busy: until it works, or up to `giveUpAfterMs`. Only for work that may be
   * repeated after a commit whose reply was lost.
   */
  async persistently<T>(work: Repeatable<T>, giveUpAfterMs = Infinity): Promise<T> {
    try {
      const result = await this.repeat(work, giveUpAfterMs);
      this.outage.succeeded(work);
      return result;
    } catch (error) {
      this.outage.gaveUp(work);
      throw this.explained(error);
    }
  }

  private async repeat<T>(work: Repeatable<T>, giveUpAfterMs: number): Promise<T> {
    const deadline = performance.now() + giveUpAfterMs;
    let isRepeated = false;
    for (let pause = BACKOFF_MS.first; ; pause = Math.min(2 * pause, BACKOFF_MS.longest)) {
      const sentAt = performance.now();
      try {
        return await work(isRepeated);
      } catch (error) {
        // What is sent for the first time is inserted without a look, and may have been kept by an earlier call that was given up.
        const isKnownNow = isTaken(error) && !isRepeated;
        isRepeated = true;
        if (isKnownNow) continue;
        if (isInDoubt(error)) for (const listener of this.troubleListeners) listener();
        if (!isTransient(error) || this.isClosed) throw error;
        if (isOutage(error)) this.outage.failed(work, sentAt, error);
        if (performance.now() + pause > deadline) {
          throw new DatabaseUnavailableError(this.address, {
            cause: error,
            advice: `It was tried again for ${giveUpAfterMs / 1000} s.`,
          });
        }
        await delay(pause * (0.5 + Math.random()));
      }
    }
  }

  /** What a user can act on: which rights are missing, and where. Other errors stay as they are. */
  explained(error: unknown): unknown {
    if ((error as { code?: unknown }).code !== INSUFFICIENT_PRIVILEGE) return error;
    const advice =
      `The user needs CREATE on the database to make the schema "${this.schema}" and its tables. Grant it; or migrate with another user, ` +
      'grant this one USAGE on the schema and SELECT, INSERT, UPDATE, DELETE on its tables, and set migrate: false.';
    return new DatabaseUnavailableError(this.address, { cause: error, advice });
  }

  private prepare(statement: Statement, values: readonly unknown[]): QueryConfig {
    return this.isPooled ? unprepared(statement, values) : this.plans.prepare(statement, values);
  }

  async notify(channel: string, payload: string): Promise<void> {
    await this.pool.query('select pg_notify($1, $2)', [channel, payload]);
  }

  /** A connection outside of the pool, to the database of that URL. */
  async connectTo(url: string): Promise<ListeningClient> {
    const { Client } = (this.dataSource.driver as unknown as { postgres: typeof import('pg') }).postgres;
    const client = new Client({
      connectionString: url,
      ...NOTICES_SILENCE,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      application_name: 'nestjs-orchestration listen',
    });
    await client.connect();
    return Object.assign(client, { release: () => void client.end().catch(() => {}) });
  }

  /** A connection of one's own, for as long as one likes. */
  connect(): Promise<PoolClient> {
    return this.pool.connect();
  }

  /** Does not wait for connections on which a silent database owes an answer: those end by their time-outs. */
  async close(): Promise<void> {
    if (this.isClosed) return;
    this.isClosed = true;
    await endsWithin(CLOSE_TIMEOUT_MS, this.dataSource.destroy());
  }

  get closed(): boolean {
    return this.isClosed;
  }

  private get pool(): Pool {
    return (this.dataSource.driver as unknown as { master: Pool }).master;
  }
}

function runOn(client: PoolClient, toQuery: (statement: Statement, values: readonly unknown[]) => QueryConfig): Run {
  return async <Row>(statement: Statement, values: readonly unknown[]) =>
    (await client.query(toQuery(statement, values))).rows as Row[];
}

function unprepared({ text }: Statement, values: readonly unknown[]): QueryConfig {
  return { text, values: values as unknown[] };
}

/**
 * How to reach the database, and nothing else of the app's options: its naming strategy, table prefix, replicas or isolation
 * level are for its own entities.
 */
function engineOptions(options: PostgresOptions, schema: string): PostgresOptions {
  const { connectTimeoutMS = CONNECT_TIMEOUT_MS, applicationName = 'nestjs-orchestration' } = options;
  return {
    type: 'postgres',
    ...credentialsOf(options),
    driver: javaScriptClientOf((options.driver ?? pg) as typeof pg),
    schema,
    entities: [
      RunEntity,
      HistoryEntity,
      WorkerEntity,
      WatchEntity,
      SignalEntity,
      OutgoingSignalEntity,
      InputEntity,
      QueueEntity,
      QueueClaimEntity,
      ScheduleEntity,
      RetentionEntity,
    ],
    migrations: [CreateTables1763600000000],
    migrationsTableName: 'migrations',
    migrationsTransactionMode: 'all',
    installExtensions: false,
    logging: false,
    poolSize: POOL_SIZE,
    connectTimeoutMS,
    applicationName,
    poolErrorHandler: () => {},
    extra: {
      ...NOTICES_SILENCE,
      ...(options.extra as object | undefined),
      max: POOL_SIZE,
    },
  };
}

/** Where pg-native is installed, TypeORM would take that, which has no binary parameters. */
function javaScriptClientOf(driver: typeof pg): typeof pg {
  return Object.create(driver, { native: { value: null } }) as typeof pg;
}

/** `{ url: process.env.DATABASE_URL }` without that variable. */
function hasForgottenUrl(options: PostgresOptions): boolean {
  return 'url' in options && options.url === undefined && options.host === undefined;
}

/** Of the primary: a replica lags behind, and takes no writes. */
function credentialsOf(options: PostgresOptions): Credentials {
  const { url, host, port, username, password, database, ssl } = { ...options, ...options.replication?.master };
  return { url, host, port, username, password, database, ssl };
}

/** `host:port/database`, without user and password. */
function addressOf(options: PostgresOptions): string {
  const { url: text, host, port, database } = credentialsOf(options);
  if (text && !URL.canParse(text)) return 'an url that cannot be read';
  const url = text ? new URL(text) : undefined;
  return `${url?.hostname || host || 'localhost'}:${url?.port || port || 5432}/${url?.pathname.slice(1) || database || ''}`;
}
