import { existsSync, readFileSync } from 'node:fs';
import pg from 'pg';
import { pause } from './load.js';

const PREFIX = 'orchestration_bench_';
const TICKS_PER_SECOND = 100;
const INSUFFICIENT_PRIVILEGE = '42501';

/** What a database has done so far. */
export interface Counters {
  /** Needs pg_stat_statements. */
  statements: number | undefined;
  commits: number;
  walBytes: number;
}

/** The PostgreSQL that is measured: databases of the benchmark, and what they cost. */
export class Server {
  private constructor(
    private readonly url: string,
    private readonly admin: pg.Pool,
    private readonly countsStatements: boolean,
  ) {}

  static async connect(url: string): Promise<Server> {
    const admin = new pg.Pool({ connectionString: url, max: 1 });
    const { rows } = await admin.query<{ loaded: boolean }>(
      `select current_setting('shared_preload_libraries') like '%pg_stat_statements%' as loaded`,
    );
    const server = new Server(url, admin, rows[0]!.loaded);
    await server.dropAll();
    return server;
  }

  /** A fresh database for a system; its URL. */
  async create(system: string): Promise<string> {
    const name = PREFIX + system.replaceAll(/\W/g, '_');
    await this.admin.query(`drop database if exists "${name}" with (force)`);
    await this.admin.query(`create database "${name}"`);
    const url = new URL(this.url);
    url.pathname = `/${name}`;
    if (this.countsStatements)
      await onDatabase(url.href, (client) => client.query('create extension pg_stat_statements'));
    return url.href;
  }

  async drop(url: string): Promise<void> {
    await this.admin.query(`drop database if exists "${nameIn(url)}" with (force)`);
  }

  /**
   * Does at once what PostgreSQL would do some time later, so that nobody pays for what was done before: vacuums a database, and has all
   * written out, if the user may ask for that.
   */
  async settle(url: string): Promise<void> {
    await onDatabase(url, (client) => client.query('vacuum (analyze)'));
    try {
      await this.admin.query('checkpoint');
    } catch (error) {
      if ((error as { code?: string }).code !== INSUFFICIENT_PRIVILEGE) throw error;
    }
  }

  /** Waits until nobody is connected: backends report their commits now and then, and when they end. */
  async counters(url: string): Promise<Counters> {
    const database = nameIn(url);
    while ((await this.backends(database)).length > 0) await pause(50);
    const { rows } = await this.admin.query<{ commits: number; walBytes: number }>(
      `select xact_commit::float8 as commits, pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8 as "walBytes"
       from pg_stat_database where datname = $1`,
      [database],
    );
    return { ...rows[0]!, statements: await this.statements(url) };
  }

  /** Statements that were executed in a database so far, but for those that count them; undefined where the server does not count. */
  async statements(url: string): Promise<number | undefined> {
    if (!this.countsStatements) return undefined;
    return onDatabase(url, async (client) => {
      const { rows } = await client.query<{ calls: number }>(
        `select coalesce(sum(calls), 0)::float8 as calls from pg_stat_statements
         where dbid = (select oid from pg_database where datname = current_database())
           and query !~* 'pg_stat_statements' and query !~* '^(begin|start transaction|commit|rollback)'`,
      );
      return rows[0]!.calls;
    });
  }

  /** Milliseconds of CPU of all backends of a database that live now; undefined when the server is on another machine. */
  async cpuMs(url: string): Promise<number | undefined> {
    const { rows } = await this.admin.query<{ pid: number }>('select pg_backend_pid() as pid');
    if (!isBackend(rows[0]!.pid)) return undefined;
    return (await this.backends(nameIn(url))).reduce((sum, pid) => sum + cpuMsOf(pid), 0);
  }

  /** A setting of the server, as `show` writes it. */
  async show(setting: string): Promise<string> {
    const { rows } = await this.admin.query<{ value: string }>('select current_setting($1) as value', [setting]);
    return rows[0]!.value;
  }

  /** Rows, dead rows and bytes with indexes of all tables of a database. */
  async tables(url: string): Promise<{ rows: number; deadRows: number; bytes: number }> {
    return onDatabase(url, async (client) => {
      const { rows } = await client.query<{ rows: number; deadRows: number; bytes: number }>(
        `select sum(n_live_tup)::float8 as rows, sum(n_dead_tup)::float8 as "deadRows", sum(pg_total_relation_size(relid))::float8 as bytes
         from pg_stat_user_tables`,
      );
      return rows[0]!;
    });
  }

  /** Also drops what an interrupted run has left. */
  async close(): Promise<void> {
    await this.dropAll();
    await this.admin.end();
  }

  private async backends(database: string): Promise<number[]> {
    const { rows } = await this.admin.query<{ pid: number }>('select pid from pg_stat_activity where datname = $1', [
      database,
    ]);
    return rows.map(({ pid }) => pid);
  }

  private async dropAll(): Promise<void> {
    const { rows } = await this.admin.query<{ datname: string }>(
      'select datname from pg_database where starts_with(datname, $1)',
      [PREFIX],
    );
    for (const { datname } of rows) await this.admin.query(`drop database if exists "${datname}" with (force)`);
  }
}

async function onDatabase<Value>(url: string, work: (client: pg.Client) => Promise<Value>): Promise<Value> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

function nameIn(url: string): string {
  return new URL(url).pathname.slice(1);
}

function isBackend(pid: number): boolean {
  return existsSync(`/proc/${pid}/stat`) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('postgres');
}

function cpuMsOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  return ((Number(fields[11]) + Number(fields[12])) * 1_000) / TICKS_PER_SECOND;
}
