import type { InjectionToken } from '@nestjs/common';
import type { DataSource } from 'typeorm';
import { type CallerContext, callerContextProblems } from '../engine/caller-context.js';
import { type Duration, parseDuration, tryParseDuration } from '../engine/duration.js';
import { codecProblems, type PayloadCodec } from '../engine/payload-codec.js';
import {
  limitProblems,
  type QueueLimits,
  rateProblems,
  type StoredLimits,
  toStoredLimits,
} from '../engine/queue-limits.js';
import { retentionProblems, type RetentionOptions, toKeptFor } from '../engine/retention.js';
import type { WorkflowRegistry } from '../engine/registry.js';
import type { WorkerSettings } from '../engine/worker.js';
import type { PostgresOptions } from '../store/database.js';
import type { StartLimit } from '../store/start-limiter.js';

/** How this process executes runs. */
export interface WorkerOptions {
  /** Runs executing at a time in this process; parked ones do not count. Default 100. */
  concurrency?: number;
  /** Default: `'default'` and every queue that a registered workflow names. */
  queues?: readonly string[];
  /** How long the worker may be silent before others take its runs over. At least 1 s. Default `'30s'`. */
  lease?: Duration;
  /** How long a shutdown waits for step bodies that are running. Default `'20s'`. */
  shutdownTimeout?: Duration;
  /** How often a run may lose its worker without recording anything before it fails as RUN_POISONED. Default 10. */
  maxRecoveries?: number;
  /** How many parked runs keep their code in memory. Default 1000. */
  stickyRuns?: number;
  /** How often the worker looks for what no hint has told it. Default `'1s'`. */
  pollInterval?: Duration;
}

/** Options of `OrchestrationModule.forRoot`. Every one is optional. */
export interface OrchestrationModuleOptions {
  /** The app's TypeORM DataSource, whose database the engine uses: a name, a token or an instance. */
  dataSource?: string | InjectionToken | DataSource;
  /** Or connection options of its own. */
  connection?: PostgresOptions;
  /** A direct URL of the database for LISTEN, where the other connections go through a pooler in transaction mode. */
  listenUrl?: string;
  /** Default `'orchestration'`, and `'orchestration_<name>'` for a module with a name. */
  schema?: string;
  /** Whether the tables are brought up to date at boot. Default: true, except when NODE_ENV is `production`. */
  migrate?: boolean;
  /** `false`: this process starts and watches runs, and executes none. */
  worker?: WorkerOptions | false;
  /**
   * Carries the async context of those who start runs (a request's user, a store of nestjs-cls) to the runs' code and
   * steps. Default: it is not carried.
   */
  context?: CallerContext;
  /** Limits of queues, over the whole fleet: the last boot writes them to the database. See {@link QueueLimits}. */
  queues?: Record<string, QueueLimits>;
  tenants?: {
    /** How many runs a tenant may have started in any stretch of that length; its children count, and are not refused. */
    startLimit?: { limit: number; per: Duration };
  };
  /** How long finished runs are kept, with all their descendants: `{ completed: '30d', failed: '90d' }`. Default: for ever. */
  retention?: RetentionOptions;
  payload?: {
    /** The largest input, output or state as it is serialised, before the codec. Default 2 MiB. */
    maxBytes?: number;
    /** Encrypts payloads, for instance: {@link AesGcmPayloadCodec}. Default: they are stored as they are. */
    codec?: PayloadCodec;
  };
}

/** Engines of different names do not see each other: each has a schema of its own. */
export function defaultSchema(engine: string | undefined): string {
  return engine === undefined ? 'orchestration' : `orchestration_${engine}`;
}

export const DEFAULT_MAX_BYTES = 2 * 1024 * 1024;
/** PostgreSQL silently cuts longer names off. */
const LONGEST_IDENTIFIER = 63;
/** TypeORM takes names with quotes and dots apart, in its own table of migrations as well; pg_ is PostgreSQL's own. */
const SCHEMA = /^(?!pg_)[\p{L}\p{N}_$ -]+$/u;
const SHORTEST_LEASE_MS = 1_000;

const WORKER_DEFAULTS = {
  concurrency: 100,
  lease: '30s',
  shutdownTimeout: '20s',
  maxRecoveries: 10,
  stickyRuns: 1_000,
  pollInterval: '1s',
} as const satisfies WorkerOptions;

export function toWorkerSettings(
  { worker: options, retention }: OrchestrationModuleOptions,
  registry: WorkflowRegistry,
): WorkerSettings | undefined {
  if (options === false) return undefined;
  const { lease, shutdownTimeout, pollInterval, queues, ...rest } = { ...WORKER_DEFAULTS, ...given(options) };
  return {
    ...rest,
    queues: queues ?? [...new Set(['default', ...registry.queues()])],
    leaseMs: parseDuration(lease),
    shutdownTimeoutMs: parseDuration(shutdownTimeout),
    pollIntervalMs: parseDuration(pollInterval),
    retention: toKeptFor(retention),
  };
}

const OPTIONS = new Set<string>([
  'dataSource',
  'connection',
  'listenUrl',
  'schema',
  'migrate',
  'worker',
  'context',
  'queues',
  'tenants',
  'retention',
  'payload',
] satisfies (keyof OrchestrationModuleOptions)[]);
const WORKER_OPTIONS = new Set([...Object.keys(WORKER_DEFAULTS), 'queues']);

const OBJECTS = [
  'connection',
  'worker',
  'context',
  'queues',
  'tenants',
  'retention',
  'payload',
] as const satisfies (keyof OrchestrationModuleOptions)[];

/** What is wrong with the options of the module, for the report at boot. */
export function moduleProblems(options: OrchestrationModuleOptions): string[] {
  const misshapen = OBJECTS.filter((option) => !hasShape(option, options[option]));
  const rest = Object.entries(options).filter(([option]) => !(misshapen as string[]).includes(option));
  return [
    ...misshapen.map((option) => {
      const shape = option === 'worker' ? 'an object or false' : 'an object';
      return `forRoot: ${option} must be ${shape}, not ${JSON.stringify(options[option])}`;
    }),
    ...valueProblems(Object.fromEntries(rest)),
  ];
}

function hasShape(option: (typeof OBJECTS)[number], value: unknown): boolean {
  if (value === undefined || (option === 'worker' && value === false)) return true;
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function valueProblems(options: OrchestrationModuleOptions): string[] {
  const problems = unknown('forRoot', options, OPTIONS);
  if (options.dataSource !== undefined && options.connection !== undefined)
    problems.push('forRoot: give dataSource or connection, not both');
  if (options.schema !== undefined && !isSchema(options.schema))
    problems.push(
      `forRoot: schema must be 1 to ${LONGEST_IDENTIFIER} bytes of letters, digits, '_', '$', '-' and spaces, and not begin with 'pg_', not '${options.schema}'`,
    );
  if (options.migrate !== undefined && typeof options.migrate !== 'boolean')
    problems.push(`forRoot: migrate must be true or false, not ${JSON.stringify(options.migrate)}`);
  if (options.listenUrl !== undefined && !isPostgresUrl(options.listenUrl))
    problems.push('forRoot: listenUrl must be a URL like postgres://user:password@host:5432/database');
  if (options.connection && options.connection.type !== 'postgres')
    problems.push(`forRoot: connection.type must be 'postgres', not '${String(options.connection.type)}'`);
  if (options.context !== undefined) problems.push(...callerContextProblems(options.context));
  if (options.payload) {
    problems.push(...unknown('payload', options.payload, new Set(['maxBytes', 'codec'])));
    const { maxBytes } = options.payload;
    if (maxBytes !== undefined && !isCount(maxBytes, 1))
      problems.push(`payload.maxBytes must be a whole number from 1, not ${String(maxBytes)}`);
    if (options.payload.codec !== undefined) problems.push(...codecProblems(options.payload.codec));
  }
  problems.push(...queueProblems(options.queues), ...tenantProblems(options.tenants));
  if (options.retention !== undefined) problems.push(...retentionProblems(options.retention));
  return options.worker ? [...problems, ...workerProblems(options.worker)] : problems;
}

function queueProblems(queues: OrchestrationModuleOptions['queues'] = {}): string[] {
  return Object.entries(queues).flatMap(([name, limits]) => [
    ...(name === '' ? ['queues: the name of a queue must be a text that is not empty'] : []),
    ...limitProblems(limits).map((problem) => `queues.${name}: ${problem}`),
  ]);
}

function tenantProblems(tenants: OrchestrationModuleOptions['tenants'] = {}): string[] {
  const { startLimit } = tenants;
  const problems = unknown('tenants', tenants, new Set(['startLimit']));
  return [...problems, ...rateProblems('tenants.startLimit', startLimit)];
}

export function toStartLimit({ tenants }: OrchestrationModuleOptions): StartLimit | undefined {
  const { startLimit } = tenants ?? {};
  return startLimit && { limit: startLimit.limit, perMs: parseDuration(startLimit.per) };
}

/** The limits that this boot writes. A queue that is served here and given none loses those of an earlier boot. */
export function configuredLimits(
  { queues = {} }: OrchestrationModuleOptions,
  served: readonly string[] = [],
): Map<string, StoredLimits> {
  const limits = new Map<string, StoredLimits>(served.map((name) => [name, {}]));
  for (const [name, configured] of Object.entries(queues)) limits.set(name, toStoredLimits(name, configured));
  return limits;
}

function workerProblems(worker: WorkerOptions): string[] {
  const problems = unknown('worker', worker, WORKER_OPTIONS);
  const { concurrency, maxRecoveries, stickyRuns, lease, shutdownTimeout, pollInterval, queues } = {
    ...WORKER_DEFAULTS,
    ...given(worker),
  };
  for (const [option, value, least] of [
    ['concurrency', concurrency, 1],
    ['maxRecoveries', maxRecoveries, 1],
    ['stickyRuns', stickyRuns, 1],
  ] as const) {
    if (!isCount(value, least)) problems.push(`worker.${option} must be a whole number from ${least}, not ${value}`);
  }
  for (const [option, value, least] of [
    ['lease', lease, SHORTEST_LEASE_MS],
    ['shutdownTimeout', shutdownTimeout, 0],
    ['pollInterval', pollInterval, 10],
  ] as const) {
    if (!((tryParseDuration(value) ?? -1) >= least))
      problems.push(`worker.${option} must be a duration of at least ${least} ms, not '${value}'`);
  }
  if (
    queues !== undefined &&
    !(Array.isArray(queues) && queues.length > 0 && queues.every((queue) => typeof queue === 'string' && queue !== ''))
  ) {
    problems.push('worker.queues must be a list of queue names');
  }
  return problems;
}

/** An option that is `undefined` is not given: `lease: process.env.LEASE` means the default where there is none. */
function given(options: WorkerOptions = {}): WorkerOptions {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

function unknown(where: string, options: object, known: ReadonlySet<string>): string[] {
  return Object.keys(options)
    .filter((option) => !known.has(option))
    .map((option) => `${where}: unknown option '${option}' (known: ${[...known].join(', ')})`);
}

function isPostgresUrl(value: unknown): boolean {
  return typeof value === 'string' && URL.canParse(value) && /^postgres(ql)?:$/.test(new URL(value).protocol);
}

function isSchema(value: unknown): boolean {
  return typeof value === 'string' && SCHEMA.test(value) && Buffer.byteLength(value) <= LONGEST_IDENTIFIER;
}

function isCount(value: unknown, least: number): boolean {
  return Number.isInteger(value) && (value as number) >= least;
}
