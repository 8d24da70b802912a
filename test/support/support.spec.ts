import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import { DataSource } from 'typeorm';

import { ChaosProxy } from './chaos-proxy.js';
import { createTestDatabase, dropLeftoverDatabases, testServerUrl, type TestDatabase } from './database.js';
import { canCountStatementsOnServer, countCommitsOnServer, countStatementsOnServer, measure } from './statements.js';

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
});

afterAll(async () => {
  await database.drop();
});

async function connect(connectionString = database.url): Promise<pg.Client> {
  const client = new pg.Client({ connectionString });
  await client.connect();
  return client;
}

/** Seven statements, of which the server commits three times. */
async function workload(client: pg.Client): Promise<void> {
  await client.query('select 1');
  await client.query('begin');
  await client.query('select $1::int', [2]);
  await client.query('commit');
  await client.query('begin');
  await client.query('rollback');
  await client.query({ name: 'named', text: 'select $1::text', values: ['x'] });
}

describe('A test database', () => {
  it('is empty, its own, and can be dropped from under an open connection', async () => {
    const [one, other] = await Promise.all([createTestDatabase(), createTestDatabase()]);
    const client = await connect(one.url);
    const lost = new Promise((resolve) => client.on('error', resolve));
    await client.query('create table only_here ()');
    const otherClient = new pg.Client({ ...other.connection, user: other.connection.username });
    await otherClient.connect();

    await expect(otherClient.query('select from only_here')).rejects.toMatchObject({ code: '42P01' });
    await one.drop();
    await lost;

    await expect(connect(one.url)).rejects.toMatchObject({ code: '3D000' });
    await otherClient.end();
    await other.drop();
  });

  it('that a killed test run left behind is removed after an hour', async () => {
    const admin = await connect(testServerUrl());
    const longAgo = `orchestration_test_${(Date.now() - 2 * 3_600_000).toString(36)}_1_${database.name.slice(-8)}`;
    await admin.query(`create database ${longAgo} template template0`);

    await dropLeftoverDatabases(testServerUrl());

    const { rows } = await admin.query('select datname from pg_database where datname = any($1)', [
      [longAgo, database.name],
    ]);
    expect(rows).toEqual([{ datname: database.name }]);
    await admin.end();
  });
});

describe('measure', () => {
  it('counts the commits and statements of this process in that database', async () => {
    const client = await connect();
    const elsewhere = await connect(testServerUrl());

    const { commits, statements, byQuery } = await measure(database, async () => {
      await workload(client);
      await elsewhere.query('select 3');
    });
    await client.query('select 4');

    expect(commits).toBe(3);
    expect(statements).toBe(7);
    expect(Object.fromEntries(byQuery)).toEqual({
      'select 1': 1,
      begin: 2,
      'select $1::int': 1,
      commit: 1,
      rollback: 1,
      'select $1::text': 1,
    });
    await client.end();
    await elsewhere.end();
  });

  it('counts failed statements, repeated prepared ones, several in one message, and no commit of a failed transaction', async () => {
    const client = await connect();

    const { commits, statements, byQuery } = await measure(database, async () => {
      await client.query({ name: 'again', text: 'select $1::int', values: [1] });
      await client.query({ name: 'again', text: 'select $1::int', values: [2] });
      await client.query('select 1; select 2');
      await client.query('begin');
      await client.query('select 1 / 0').catch(() => undefined);
      await client.query('commit');
    });

    expect(commits).toBe(3);
    expect(statements).toBe(7);
    expect(byQuery.get('select $1::int')).toBe(2);
    await client.end();
  });

  it('sees the connections of TypeORM', async () => {
    const dataSource = await new DataSource(database.connection).initialize();

    const { commits, statements } = await measure(database, () =>
      dataSource.transaction((manager) => manager.query('select 1')),
    );

    expect({ commits, statements }).toEqual({ commits: 1, statements: 3 });
    await dataSource.destroy();
  });

  it('agrees with what the server says', async () => {
    let measured = 0;

    const onServer = await countCommitsOnServer(database, async () => {
      // A pool's worth of connections, closed at the end, so that the server reports at once.
      const clients = await Promise.all([connect(), connect(), connect()]);
      measured = (await measure(database, () => Promise.all(clients.map(workload)))).commits;
      await Promise.all(clients.map((client) => client.end()));
    });

    expect(measured).toBe(9);
    // To open a connection is a transaction, too.
    expect(onServer).toBe(measured + 3);
  });

  it('agrees with pg_stat_statements where that is loaded', async () => {
    const client = await connect();

    const counted = await countStatementsOnServer(database, () => workload(client));

    const expected = { 'select $1': 1, begin: 2, 'select $1::int': 1, commit: 1, rollback: 1, 'select $1::text': 1 };
    expect(counted && Object.fromEntries(counted)).toEqual((await canCountStatementsOnServer()) ? expected : undefined);
    await client.end();
  });

  it('waits until a session that stays open has reported its commits', async () => {
    let client: pg.Client | undefined;

    const onServer = await countCommitsOnServer(database, async () => {
      client = await connect();
      await workload(client);
    });

    await client?.end();
    // An autovacuum worker may have committed in this database meanwhile: the server counts that too.
    expect(onServer).toBeGreaterThanOrEqual(3 + 1);
    expect(onServer).toBeLessThan(3 + 1 + 20);
  });
});

describe('ChaosProxy', () => {
  it('cuts replies off while the database executes, and delivers them after healing', async () => {
    const proxy = new ChaosProxy(database.connection.port, database.connection.host);
    const port = await proxy.listen();
    const url = new URL(database.url);
    url.host = `127.0.0.1:${port}`;
    const client = await connect(url.href);
    const direct = await connect();
    await direct.query('create table arrived (id int)');

    proxy.cutReplies();
    const insert = client.query('insert into arrived values (1)');
    while ((await direct.query('select from arrived')).rowCount === 0);
    const beforeHealing = await Promise.race([insert, Promise.resolve('unanswered')]);
    proxy.heal();

    expect(beforeHealing).toBe('unanswered');
    expect((await insert).rowCount).toBe(1);
    await Promise.all([client.end(), direct.end()]);
    proxy.close();
  });

  it('resets live connections and refuses new ones', async () => {
    const proxy = new ChaosProxy(database.connection.port, database.connection.host);
    const url = new URL(database.url);
    url.host = `127.0.0.1:${await proxy.listen()}`;
    const client = await connect(url.href);
    const lost = new Promise<Error>((resolve) => client.on('error', resolve));

    proxy.refuse = true;
    proxy.reset();

    expect(await lost).toMatchObject({ code: 'ECONNRESET' });
    await expect(connect(url.href)).rejects.toMatchObject({ code: 'ECONNRESET' });
    proxy.heal();
    await (await connect(url.href)).end();
    proxy.close();
  });
});
