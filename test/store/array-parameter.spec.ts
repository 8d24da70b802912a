import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import pg from 'pg';

import { ArrayParameter, type ColumnType } from '../../lib/store/array-parameter.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';

let database: TestDatabase;
let client: pg.Client;

beforeAll(async () => {
  database = await createTestDatabase();
  client = new pg.Client({ connectionString: database.url });
  await client.connect();
});

afterAll(async () => {
  await client.end();
  await database.drop();
});

describe('A column of rows as a parameter', () => {
  it.each<[ColumnType, unknown[]]>([
    ['uuid', ['0197a3c1-5a5b-7c4d-8e9f-0a1b2c3d4e5f', null, 'ffffffff-ffff-ffff-ffff-ffffffffffff']],
    ['text', ['', 'NULL', null, 'quotes " and \\ and {braces}, commas', 'Zoë 漢字 🚀', 'x'.repeat(100_000), '\t\n']],
    ['text', ['x'.repeat(32), 'x'.repeat(33), 'ends in ü', '漢'.repeat(32), '🚀'.repeat(16), '\x7f']],
    ['uuid', ['99999999-0000-aaaa-ffff-090909afafaf']],
    ['int', [0, 1, -1, null, 2_147_483_647, -2_147_483_648]],
    ['float8', [0, -0.5, null, 1_764_489_600_000.25, 8.64e15]],
    ['bool', [true, null, false]],
    ['text', [null, null]],
    ['int', []],
    ['uuid', []],
  ])('gives the database the same %s as the array itself: %p', async (type, values) => {
    const { rows } = await client.query(
      `select $1::${type}[] = $2::${type}[] as same, $1::${type}[] as received, cardinality($1::${type}[]) as length`,
      [new ArrayParameter(type, values), values],
    );

    expect(rows).toEqual([{ same: true, received: values, length: values.length }]);
  });

  it('is refused by the database when its elements are of another type', async () => {
    await expect(client.query('select $1::int[]', [new ArrayParameter('text', ['1'])])).rejects.toThrow(
      'has array element type',
    );
  });
});
