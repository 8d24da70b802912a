import type { MigrationInterface, QueryRunner } from 'typeorm';
import { hintChannel, quoteIdentifier } from '../statements/statement.js';

/** The first schema. Later migrations only add, so that workers of two versions can run side by side during a deploy. */
export class CreateTables1763600000000 implements MigrationInterface {
  async up(queryRunner: QueryRunner): Promise<void> {
    const schema = quoteIdentifier(schemaOf(queryRunner));
    const channel = hintChannel(schemaOf(queryRunner));
    for (const statement of UP)
      await queryRunner.query(statement.replaceAll('@schema', () => schema).replaceAll('@channel', channel));
  }

  async down(queryRunner: QueryRunner): Promise<void> {
    const schema = quoteIdentifier(schemaOf(queryRunner));
    for (const table of [
      'retention',
      'schedule',
      'queue_claim',
      'queue',
      'input',
      'outgoing_signal',
      'signal',
      'watch',
      'worker',
      'history',
      'run',
    ])
      await queryRunner.query(`drop table ${schema}.${table}`);
    for (const name of [
      'send_outgoing_signals',
      'send_signal',
      'signal_targets',
      'wake_run',
      'watchers_of',
      'engine_now',
    ])
      await queryRunner.query(`drop function ${schema}.${name}`);
  }
}

function schemaOf(queryRunner: QueryRunner): string {
  return (queryRunner.dataSource.options as { schema?: string }).schema!;
}

/** Frozen: what `urgency` of statements/statement.ts says. A step of priority is worth a minute of waiting. */
const RUN_URGENCY = `(date_part('epoch', ready_at at time zone 'UTC') - priority * 60.0)`;

/** @internal What it does, in its order. */
export const UP = [
  // The one clock of the engine. The planner inlines it, so it costs nothing; tests replace it to move time.
  `create function @schema.engine_now() returns timestamptz language sql stable as 'select now()'`,
  `create table @schema.run (
    id uuid not null constraint run_pkey primary key,
    root_id uuid not null,
    parent_id uuid,
    created_at timestamptz not null,
    deadline timestamptz,
    version integer not null,
    priority integer not null default 0,
    depth integer not null,
    workflow text not null,
    queue text not null,
    key text,
    tenant text,
    label text,
    ref text,
    scope text not null default '',
    cascades boolean not null default true,
    closes_with_parent boolean not null default false,
    input_digest text not null,
    context text,
    trace text,
    forked_from uuid,
    attributes jsonb,
    input text,
    gated boolean not null default false,
    superseded boolean not null default false,
    carried_over boolean not null default false,
    awaited boolean not null default false,
    watched boolean not null default false,
    paused boolean not null default false,
    generation integer not null default 0,
    recoveries integer not null default 0,
    recovered_seq integer not null default 0,
    history_begins_at timestamptz,
    retried_at timestamptz,
    cancel_requested_at timestamptz,
    cancel_reason text,
    compensation text not null default 'none',
    ancestors text,
    started_at timestamptz,
    status text not null,
    epoch integer not null default 0,
    write_no integer not null default 0,
    wakes integer not null default 0,
    worker_id uuid,
    ready_at timestamptz,
    wake_at timestamptz,
    finished_at timestamptz,
    waiting_for text,
    output text,
    error text,
    state text
  )`,
  // Every run is updated a few times in its life and dead versions must go early; the default waits for a fifth of the table.
  `alter table @schema.run set (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0)`,
  `create unique index run_key on @schema.run (workflow, key) where key is not null and not superseded`,
  `create unique index run_ref on @schema.run (parent_id, ref) where parent_id is not null and not superseded`,
  `create index run_parent on @schema.run (parent_id, id) where parent_id is not null`,
  // Serves exactly the order in which runs of one definition are claimed. What no worker here has the code of, or what is
  // paused, is not walked over by those who claim.
  `create index run_ready on @schema.run (queue, workflow, version, ${RUN_URGENCY}, id) where ready_at is not null and not paused`,
  // Of queues with limits only: what holds a slot, what waits for one again, and what waits for one, by tenant.
  `create index run_slot on @schema.run (queue, tenant) where gated and status = 'running'`,
  `create index run_woken on @schema.run (queue, ${RUN_URGENCY}, id) where gated and ready_at is not null and not paused and started_at is not null`,
  `create index run_turn on @schema.run (queue, tenant, ${RUN_URGENCY}, id) where gated and ready_at is not null and not paused`,
  `create index run_tenant on @schema.run (tenant, id) where tenant is not null`,
  // Only runs that have attributes write it. Without `fastupdate`, since a list would walk what is not merged yet.
  `create index run_attributes on @schema.run using gin (attributes jsonb_path_ops) with (fastupdate = off) where attributes is not null`,
  `create index run_timer on @schema.run (wake_at) where wake_at is not null`,
  `create index run_worker on @schema.run (worker_id) where worker_id is not null`,
  // Serves retention: only finished roots are in it, and only their end writes it.
  `create index run_finished on @schema.run (workflow, status, finished_at, id) where parent_id is null and finished_at is not null`,
  // Serves lists. What is running is found by its worker, and what is completed is most of all.
  `create index run_status on @schema.run (status, id) where status in ('pending', 'waiting', 'blocked', 'failed', 'cancelled')`,
  `create table @schema.history (
    run_id uuid not null,
    started_at timestamptz not null,
    finished_at timestamptz not null,
    seq integer not null,
    ordinal integer not null,
    attempts integer not null,
    after_seq integer not null,
    child_id uuid,
    kind text not null,
    scope text not null,
    name text not null,
    status text not null,
    digest text,
    output text,
    error text,
    logs text,
    output_in_run boolean,
    constraint history_pkey primary key (run_id, seq)
  )`,
  // Large payloads are compressed a few times faster than by the default; a PostgreSQL that was built without lz4 keeps that.
  `do $$
  begin
    alter table @schema.run
      alter column input set compression lz4, alter column output set compression lz4, alter column error set compression lz4,
      alter column context set compression lz4, alter column state set compression lz4;
    alter table @schema.history
      alter column output set compression lz4, alter column error set compression lz4, alter column logs set compression lz4;
  exception when feature_not_supported then null;
  end $$`,
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
  `create index watch_watcher on @schema.watch (watcher_id)`,
  `create table @schema.input (
    run_id uuid not null,
    scope text not null,
    name text not null,
    ordinal integer not null,
    workflow text not null,
    type text not null,
    prompt text,
    choices text,
    judged_by_run boolean not null,
    shielded boolean not null,
    state text not null,
    asked_at timestamptz not null,
    expires_at timestamptz,
    offer_id uuid,
    offered_until timestamptz,
    answer text,
    answered_at timestamptz,
    issues text,
    constraint input_pkey primary key (run_id, scope, name, ordinal)
  )`,
  // Serve the order in which they are listed: the longest waiting first.
  `create index input_asked on @schema.input (asked_at, run_id)`,
  `create index input_workflow on @schema.input (workflow, asked_at, run_id)`,
  `create table @schema.queue (
    name text not null constraint queue_pkey primary key,
    paused boolean not null default false,
    configured jsonb not null default '{}',
    override jsonb,
    after_tenant text not null default ''
  )`,
  `create table @schema.queue_claim (
    queue text not null,
    claimed_at timestamptz not null,
    runs integer not null,
    constraint queue_claim_pkey primary key (queue, claimed_at)
  )`,
  `create table @schema.schedule (
    id text not null constraint schedule_pkey primary key,
    workflow text not null,
    version integer not null,
    queue text not null,
    timeout_ms double precision,
    input text,
    input_digest text not null,
    cron text,
    every_ms double precision,
    time_zone text not null,
    overlap text not null,
    missed text not null,
    jitter_ms double precision not null,
    declared boolean not null,
    paused boolean not null,
    last_tick timestamptz,
    last_run_id uuid,
    last_run_at timestamptz,
    next_tick timestamptz not null,
    due_at timestamptz,
    created_at timestamptz not null
  )`,
  `create index schedule_due on @schema.schedule (due_at) where due_at is not null`,
  // How long the runs of a workflow are kept is what its own code says, also to processes that do not have it.
  `create table @schema.retention (
    workflow text not null constraint retention_pkey primary key,
    kept_ms double precision not null
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
  `create table @schema.signal (
    run_id uuid not null,
    id text not null,
    seq integer not null,
    name text not null,
    payload text,
    for_waits boolean not null default false,
    consumed boolean not null default false,
    sent_at timestamptz not null,
    constraint signal_pkey primary key (run_id, id)
  )`,
  `create unique index signal_order on @schema.signal (run_id, name, seq) where not consumed`,
  // Which signals a run has received.
  `create index history_receipt on @schema.history (run_id, digest) where kind = 'signal'`,
  // What transactions of callers that are still open send; it becomes signals at their commits.
  `create table @schema.outgoing_signal (
    sender bigint not null,
    id uuid not null,
    run_id uuid not null,
    signal_id text not null,
    name text not null,
    payload text,
    tree_wait text,
    constraint outgoing_signal_pkey primary key (sender, id)
  )`,
  // Whom a signal reaches: the addressed run; and when it goes to the tree ("wait" is what the list of a parked run that waits
  // for it contains), its live descendants that wait for it. What a run that is not parked waits for is not in its row: it is
  // sent to each of them, and the run takes it if a wait for it had begun.
  `create function @schema.signal_targets(addressed uuid, signal_id text, wait text)
    returns table (run_id uuid, for_waits boolean) language sql stable rows 1
    as $$
      with recursive family as (
        select addressed as id
        union
        select child.id
        from @schema.run child
        join family on child.parent_id = family.id
        where wait is not null
          and not exists (select from @schema.signal s where s.run_id = addressed and s.id = signal_id)
      )
      select r.id, r.id <> addressed and r.status <> 'waiting'
      from @schema.run r
      where r.id = any(array(select id from family))
        and (
          r.id = addressed
          or r.finished_at is null and r.started_at is not null and (r.status <> 'waiting' or strpos(r.waiting_for, wait) > 0)
        )
    $$`,
  // Gives a signal to a run and wakes it. Locks the run; from there on, each statement sees all that was committed before. The
  // number of a signal is the count of wakes that it comes with, so it grows in the order of commits. One that a caller's commit
  // sends is kept for a run that has ended meanwhile, as one that it has not read: it may be retried.
  `create function @schema.send_signal(target uuid, signal_id text, signal_name text, signal_payload text, only_for_waits boolean, commits boolean)
    returns table (outcome text, status text, epoch integer, wakes integer, queue text, worker_id uuid, sent_at timestamptz)
    language plpgsql volatile rows 1
    as $$
    #variable_conflict use_column
    declare
      run record;
      sending_at timestamptz;
    begin
      select r.status, r.finished_at into run from @schema.run r where r.id = target for no key update;
      if not found then
        return;
      end if;
      if exists (select from @schema.signal s where s.run_id = target and s.id = signal_id) then
        return query select 'repeated', run.status, null::integer, null::integer, null, null::uuid, null::timestamptz;
        return;
      end if;
      if run.finished_at is not null and not commits then
        return query select 'finished', run.status, null::integer, null::integer, null, null::uuid, null::timestamptz;
        return;
      end if;
      select w.* into run from @schema.wake_run(target) w;
      sending_at := @schema.engine_now() + (clock_timestamp() - now());
      insert into @schema.signal (run_id, id, seq, name, payload, for_waits, sent_at)
      values (target, signal_id, run.wakes, signal_name, signal_payload, only_for_waits, sending_at);
      return query select 'sent', run.status, run.epoch, run.wakes, run.queue, run.worker_id, sending_at;
    end
    $$`,
  // At the commit of a caller's transaction: the first of its rows sends them all, in the order of runs, since commits lock those.
  `create function @schema.send_outgoing_signals() returns trigger language plpgsql
    as $$
    declare
      hints text;
    begin
      with outgoing as (
        delete from @schema.outgoing_signal o where o.sender = new.sender returning o.*
      ),
      sent as materialized (
        select result.*
        from (
          select o.*, target.run_id as target, target.for_waits
          from outgoing o
          cross join lateral @schema.signal_targets(o.run_id, o.signal_id, o.tree_wait) target
          order by target.run_id, o.id
        ) o
        cross join lateral @schema.send_signal(o.target, o.signal_id, o.name, o.payload, o.for_waits, true) result
        where result.outcome = 'sent'
      )
      select json_build_object(
        'queues', coalesce(json_agg(distinct queue) filter (where worker_id is null and status = 'pending'), '[]'),
        'workers', coalesce(json_agg(distinct worker_id) filter (where worker_id is not null), '[]')
      ) into hints
      from sent
      having count(*) > 0;
      -- More than that a notification cannot hold; then the regular look finds them.
      if octet_length(hints) < 8000 then
        perform pg_notify('@channel', hints);
      end if;
      return null;
    end
    $$`,
  `create constraint trigger outgoing_signal_sent after insert on @schema.outgoing_signal
    deferrable initially deferred for each row execute function @schema.send_outgoing_signals()`,
];
