import { Orchestrator, RunContext, type RunSummary, Workflow } from '../../lib/index.js';
import { Database } from '../../lib/store/database.js';
import { migrate } from '../../lib/store/migrate.js';
import { closeApps, startApp } from '../support/app.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { measure } from '../support/statements.js';

@Workflow('listed')
class ListedWorkflow {
  constructor(private readonly ctx: RunContext) {}

  async run(input: { text: string }): Promise<string> {
    await this.ctx.setState({ progress: 1 });
    return input.text;
  }
}

@Workflow({ name: 'listed-other', queue: 'others' })
class OtherWorkflow {
  run(): never {
    throw new Error('always');
  }
}

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
});

afterAll(async () => {
  await closeApps();
  await database.drop();
});

describe('The schema', () => {
  it.each(['orchestration', 'Another Name'])(
    'that the migrations make is the one that the entities describe: %s',
    async (schema) => {
      const store = await Database.open(database.connection, schema);
      await migrate(store, true);

      const { upQueries } = await store.dataSource.driver.createSchemaBuilder().log();

      expect(upQueries.map(({ query }) => query)).toEqual([]);
      await store.close();
    },
  );

  it('can be taken down and made again', async () => {
    const store = await Database.open(database.connection, 'down');
    await migrate(store, true);
    const tables = () =>
      store.dataSource.query<{ name: string }[]>(
        `select relname as name from pg_class where relnamespace = 'down'::regnamespace and relkind = 'r' order by relname`,
      );
    const before = await tables();

    for (let left = store.dataSource.migrations.length; left > 0; left--) await store.dataSource.undoLastMigration();
    const left = await tables();
    const functions: unknown[] = await store.dataSource.query(
      `select from pg_proc where pronamespace = 'down'::regnamespace`,
    );
    await migrate(store, true);

    expect(left).toEqual([{ name: 'migrations' }]);
    expect(functions).toHaveLength(0);
    expect(await tables()).toEqual(before);
    await store.close();
  });

  it('compresses payloads by lz4 where PostgreSQL was built with it', async () => {
    const store = await Database.open(database.connection, 'compressed');
    await migrate(store, true);

    const [lz4] = await store.dataSource.query<{ has: boolean }[]>(
      `select 'lz4' = any(enumvals) as has from pg_settings where name = 'default_toast_compression'`,
    );
    const compressed: unknown[] = await store.dataSource.query(
      `select relname || '.' || attname as column from pg_attribute join pg_class on pg_class.oid = attrelid
       where relnamespace = 'compressed'::regnamespace and attcompression = 'l' order by 1`,
    );

    const payloads = ['history.error', 'history.logs', 'history.output', 'run.context', 'run.error'];
    const columns = [...payloads, 'run.input', 'run.output', 'run.state'].map((column) => ({ column }));
    expect(compressed).toEqual(lz4!.has ? columns : []);
    await store.close();
  });
});

describe('A list', () => {
  let orchestrator: Orchestrator;

  beforeAll(async () => {
    orchestrator = (
      await startApp({ database, providers: [ListedWorkflow, OtherWorkflow], options: { worker: false } })
    ).orchestrator;
  });

  const ids = ({ items }: { items: RunSummary[] }) => items.map(({ id }) => id);

  it('goes page by page through all runs, newest first, each once, whatever is started meanwhile', async () => {
    const handles = await orchestrator.startMany(
      ListedWorkflow,
      Array.from({ length: 120 }, (_, index) => ({ input: { text: `${index}` }, tenant: 'paged' })),
    );
    const seen: string[] = [];
    const sizes: number[] = [];
    let cursor: string | undefined;

    do {
      const page = await orchestrator.list({ tenant: 'paged', cursor });
      seen.push(...ids(page));
      sizes.push(page.items.length);
      cursor = page.nextCursor;
      await orchestrator.start(ListedWorkflow, { text: 'meanwhile' }, { tenant: 'paged' });
    } while (cursor);

    expect(seen).toEqual(handles.map(({ id }) => id).toReversed());
    expect(sizes).toEqual([50, 50, 20]);
  });

  it('ends exactly at the last page when that is full', async () => {
    await orchestrator.startMany(
      ListedWorkflow,
      [1, 2, 3, 4].map((n) => ({ input: { text: `${n}` }, tenant: 'full' })),
    );

    const first = await orchestrator.list({ tenant: 'full', limit: 2 });
    const second = await orchestrator.list({ tenant: 'full', limit: 2, cursor: first.nextCursor });

    expect(first.items).toHaveLength(2);
    expect(second.items).toHaveLength(2);
    expect(second.nextCursor).toBeUndefined();
  });

  it('is filtered by each fact, and by all of them together', async () => {
    const tenant = `it's "\\u0000" 50% \u0000`;
    const attributes = { city: `O'slo\\`, vip: true, total: 12.5, note: null };
    const early = await orchestrator.start(
      ListedWorkflow,
      { text: 'a' },
      { tenant, attributes, key: 'k%1', label: 'La_bel' },
    );
    const between = (await orchestrator.get(early.id)).createdAt;
    const late = await orchestrator.start(OtherWorkflow, undefined as never, { tenant, priority: 3 });
    const lateAt = (await orchestrator.get(late.id)).createdAt;
    const own = { tenant };

    expect(ids(await orchestrator.list(own))).toEqual([late.id, early.id]);
    expect(ids(await orchestrator.list({ tenant: 'another' }))).toEqual([]);
    expect(ids(await orchestrator.list({ ...own, workflow: 'listed' }))).toEqual([early.id]);
    expect(ids(await orchestrator.list({ ...own, queue: 'others' }))).toEqual([late.id]);
    expect(ids(await orchestrator.list({ ...own, version: 2 }))).toEqual([]);
    expect(ids(await orchestrator.list({ ...own, status: 'pending' }))).toEqual([late.id, early.id]);
    expect(ids(await orchestrator.list({ ...own, status: ['failed', 'completed'] }))).toEqual([]);
    expect(ids(await orchestrator.list({ ...own, attributes: { vip: true } }))).toEqual([early.id]);
    expect(ids(await orchestrator.list({ ...own, attributes }))).toEqual([early.id]);
    expect(ids(await orchestrator.list({ ...own, attributes: { vip: false } }))).toEqual([]);
    expect(ids(await orchestrator.list({ ...own, createdAfter: lateAt }))).toEqual([late.id]);
    expect(ids(await orchestrator.list({ ...own, createdBefore: lateAt, createdAfter: between }))).toEqual([early.id]);
    expect(ids(await orchestrator.list({ ...own, search: 'k%' }))).toEqual([early.id]);
    expect(ids(await orchestrator.list({ ...own, search: 'a_b' }))).toEqual([early.id]);
    expect(ids(await orchestrator.list({ ...own, search: 'aXb' }))).toEqual([]);
    expect(ids(await orchestrator.list({ search: late.id }))).toEqual([late.id]);
    expect(ids(await orchestrator.list({ ...own, rootOnly: true }))).toEqual([late.id, early.id]);
    expect(ids(await orchestrator.list({ ...own, parentId: early.id }))).toEqual([]);
    const all = {
      ...own,
      workflow: 'listed',
      version: 1,
      queue: 'default',
      status: 'pending',
      attributes,
      rootOnly: true,
      search: 'k',
    } as const;
    expect(ids(await orchestrator.list({ ...all, createdAfter: between, limit: 1 }))).toEqual([early.id]);
    expect((await orchestrator.list({ ...own, workflow: 'listed' })).items[0]).toMatchObject({
      id: early.id,
      ...{ tenant, attributes, key: 'k%1', label: 'La_bel', status: 'pending', depth: 1, rootId: early.id },
    });
  });

  it('never loads payloads, however it is asked for', async () => {
    const run = await orchestrator.start(ListedWorkflow, { text: 'not to be loaded' }, { key: 'payload' });
    let items: RunSummary[] = [];

    const { byQuery } = await measure(database, async () => {
      items = (await orchestrator.list({ search: 'payload' })).items;
      await orchestrator.list({ status: 'failed', cursor: run.id });
      await orchestrator.listChildren(run.id);
      await orchestrator.tree(run.id);
    });

    const selected = [...byQuery.keys()].filter((text) => /from "orchestration"."run"/i.test(text));
    expect(selected.length).toBeGreaterThanOrEqual(4);
    expect(selected.filter((text) => /\b(input|output|error)\b/.test(text.split(/\bfrom\b/i)[0]!))).toEqual([]);
    expect(items[0]).toMatchObject({ id: run.id });
    expect(Object.keys(items[0]!).filter((field) => ['input', 'output', 'error'].includes(field))).toEqual([]);
  });
});
