import { randomBytes } from 'node:crypto';
import { DataSource } from 'typeorm';
import { Database, type PostgresOptions } from './database.js';
import { migrate } from './migrate.js';
import { inSchema, quoteIdentifier } from './statements/statement.js';
import { testStatements } from './statements/test.sql.js';

const PREFIX = 'orchestration_bed_';
/** By then the process that made a database is surely gone. */
const LEFTOVER_AFTER_MS = 60 * 60_000;

/** What a test sees of its database. */
export interface Surroundings {
  /** Something executes or is due. */
  isBusy: boolean;
  /** Changes with whatever happens. */
  happened: string;
  /** By how much the clock is ahead, in ms, and by how much it will be when the next is due; null: nothing will. */
  aheadMs: number;
  nextAheadMs: number | null;
  /** By the database, in epoch ms. */
  realTime: number;
}

interface SurroundingsRow {
  is_busy: boolean;
  happened: string;
  ahead_ms: number;
  next_ahead_ms: number | null;
  real_time: number;
}

/** A database of one test, with the engine's tables and a clock that can be moved. */
export class TestDatabase {
  private constructor(
    readonly connection: PostgresOptions,
    private readonly server: PostgresOptions,
    private readonly database: Database,
    private readonly sql: ReturnType<typeof inSchema<typeof testStatements>>,
  ) {}

  /** Makes a fresh one on that server, whose user must be allowed to. */
  static async create(server: PostgresOptions, schema: string): Promise<TestDatabase> {
    await dropLeftovers(server);
    const name = PREFIX + [Date.now().toString(36), process.pid.toString(36), randomBytes(4).toString('hex')].join('_');
    // From template0, which nobody can be connected to.
    await administrate(server, `create database ${name} template template0`);
    const connection = connectionTo(server, name);
    try {
      const database = await Database.open(connection, schema);
      await migrate(database, true);
      const sql = inSchema(testStatements, schema);
      for (const statement of [sql.createClock, sql.setUpClock, sql.useClock]) await database.run(statement, []);
      return new TestDatabase(connection, server, database, sql);
    } catch (error) {
      await drop(server, name);
      throw error;
    }
  }

  async lookAround(): Promise<Surroundings> {
    const [row] = await this.database.run<SurroundingsRow>(this.sql.lookAround, []);
    const { is_busy, happened, ahead_ms, next_ahead_ms, real_time } = row!;
    return { isBusy: is_busy, happened, aheadMs: ahead_ms, nextAheadMs: next_ahead_ms, realTime: real_time };
  }

  /** Moves the clock to so many ms after the real time. */
  async moveClock(aheadMs: number): Promise<void> {
    await this.database.transaction(async (run) => {
      await run(this.sql.holdLeases, []);
      await run(this.sql.moveClock, [aheadMs]);
    });
  }

  /** The lease of a killed worker is over at once. */
  async expireLease(workerId: string): Promise<void> {
    await this.database.run(this.sql.expireLease, [workerId]);
  }

  /** Removes it, also from under connections that are still open. */
  async drop(): Promise<void> {
    await this.database.close();
    await drop(this.server, this.connection.database!);
  }
}

function connectionTo(server: PostgresOptions, database: string): PostgresOptions {
  if (server.url === undefined) return { ...server, database };
  const url = new URL(server.url);
  url.pathname = `/${database}`;
  return { ...server, url: url.href, database };
}

async function drop(server: PostgresOptions, name: string): Promise<void> {
  await administrate(server, `drop database if exists ${quoteIdentifier(name)} with (force)`);
}

const cleaned = new Set<string>();

/** What test processes that were killed have left. The name tells when it was made; one that is in use stays. */
async function dropLeftovers(server: PostgresOptions): Promise<void> {
  const address = JSON.stringify([server.url, server.host, server.port]);
  if (cleaned.has(address)) return;
  cleaned.add(address);
  const rows: { datname: string }[] = await administrate(
    server,
    `select datname from pg_database where starts_with(datname, '${PREFIX}')`,
  );
  const isLeftover = (name: string) => Date.now() - Number.parseInt(name.slice(PREFIX.length), 36) > LEFTOVER_AFTER_MS;
  for (const { datname } of rows.filter((row) => isLeftover(row.datname)))
    await administrate(server, `drop database if exists ${quoteIdentifier(datname)}`).catch(() => {});
}

async function administrate<Row>(server: PostgresOptions, statement: string): Promise<Row[]> {
  const dataSource = new DataSource({
    ...server,
    entities: [],
    migrations: [],
    subscribers: [],
    synchronize: false,
    poolSize: 1,
    installExtensions: false,
  });
  await dataSource.initialize();
  try {
    return await dataSource.query<Row[]>(statement);
  } finally {
    await dataSource.destroy();
  }
}
