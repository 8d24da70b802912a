import type { MigrationInterface, QueryRunner } from 'typeorm';
import { quoteIdentifier } from '../statements/statement.js';

/** The first schema. Later migrations only add, so that workers of two versions can run side by side during a deploy. */
export class CreateTables1763600000000 implements MigrationInterface {
  async up(queryRunner: QueryRunner): Promise<void> {
    const schema = quoteIdentifier(schemaOf(queryRunner));
    for (const statement of UP) await queryRunner.query(statement.replaceAll('@schema', () => schema));
  }

  async down(queryRunner: QueryRunner): Promise<void> {
    const schema = quoteIdentifier(schemaOf(queryRunner));
    for (const name of ['wake_run', 'watchers_of']) await queryRunner.query(`drop function ${schema}.${name}(uuid)`);
    for (const table of ['watch', 'worker', 'history', 'run']) await queryRunner.query(`drop table ${schema}.${table}`);
    await queryRunner.query(`drop function ${schema}.engine_now()`);
  }
}

function schemaOf(queryRunner: QueryRunner): string {
  return (queryRunner.dataSource.options as { schema?: string }).schema!;
}

const UP = [
  // The one clock of the engine. The planner inlines it, so it costs nothing; tests replace it to move time.
  `create function @schema.engine_now() returns timestamptz language sql stable as 'select now()'`,
  `create table @schema.run (
    id uuid not null constraint run_pkey primary key,
    workflow text not null,
    version integer not null,
    key text,
    status text not null,
    paused boolean not null default false,
    queue text not null,
    priority integer not null default 0,
    tenant text,
    label text,
    attributes jsonb,
    input text,
    input_digest text not null,
    output text,
    error text,
    state text,
    parent_id uuid,
    root_id uuid not null,
    depth integer not null,
    ref text,
    scope text not null default '',
    superseded boolean not null default false,
    awaited boolean not null default false,
    cascades boolean not null default true,
    closes_with_parent boolean not null default false,
    watched boolean not null default false,
    epoch integer not null default 0,
    write_no integer not null default 0,
    wakes integer not null default 0,
    worker_id uuid,
    recoveries integer not null default 0,
    recovered_seq integer not null default 0,
    ready_at timestamptz,
    wake_at timestamptz,
    deadline timestamptz,
    waiting_for text,
    cancel_requested_at timestamptz,
    cancel_reason text,
    created_at timestamptz not null,
    started_at timestamptz,
    finished_at timestamptz
  )`,
  // Every run is updated a few times in its life and dead versions must go early; the default waits for a fifth of the table.
  `alter table @schema.run set (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0)`,
  `create unique index run_key on @schema.run (workflow, key) where key is not null and not superseded`,
  `create unique index run_ref on @schema.run (parent_id, ref) where parent_id is not null and not superseded`,
  `create index run_parent on @schema.run (parent_id, id) where parent_id is not null`,
  // Serves exactly the order in which runs are claimed.
  `create index run_ready on @schema.run (queue, priority desc, ready_at, id) where ready_at is not null`,
  `create index run_timer on @schema.run (wake_at) where wake_at is not null`,
  `create index run_worker on @schema.run (worker_id) where worker_id is not null`,
  `create index run_unwell on @schema.run (status, id) where status in ('failed', 'cancelled', 'blocked')`,
  `create table @schema.history (
    run_id uuid not null,
    seq integer not null,
    kind text not null,
    scope text not null,
    name text not null,
    ordinal integer not null,
    status text not null,
    digest text,
    output text,
    error text,
    attempts integer not null,
    after_seq integer not null,
    started_at timestamptz not null,
    finished_at timestamptz not null,
    child_id uuid,
    constraint history_pkey primary key (run_id, seq)
  )`,
  `create table @schema.worker (
    id uuid not null constraint worker_pkey primary key,
    host text not null,
    pid integer not null,
    started_at timestamptz not null,
    heartbeat_at timestamptz not null,
    expires_at timestamptz not null,
    queues text[] not null,
    definitions text[] not null
  )`,
  `create table @schema.watch (
    run_id uuid not null,
    watcher_id uuid not null,
    constraint watch_pkey primary key (run_id, watcher_id)
  )`,
  // Both are volatile, and so not inlined: they see what was committed while the statement that calls them waited for the
  // lock of the run that ends, a watch as well as a watcher that was not there when the statement began.
  `create function @schema.watchers_of(run_id uuid) returns setof uuid language sql volatile rows 1
    as $$ select w.watcher_id from @schema.watch w where w.run_id = $1 $$`,
  `create function @schema.wake_run(run_id uuid)
    returns table (id uuid, status text, epoch integer, wakes integer, queue text, worker_id uuid) language sql volatile rows 1
    as $$
      update @schema.run r
      set wakes = r.wakes + 1,
        status = case when r.status = 'waiting' then 'pending' else r.status end,
        ready_at = case when r.status = 'waiting' then @schema.engine_now() else r.ready_at end,
        wake_at = case when r.status = 'waiting' then null else r.wake_at end
      where r.id = $1
      returning r.id, r.status, r.epoch, r.wakes, r.queue, r.worker_id
    $$`,
];
