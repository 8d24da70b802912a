import { RUN_STATUSES } from '../engine/run.js';
import type { Schema } from './operation.js';

export const text: Schema = { type: 'string' };
export const time: Schema = { type: 'string', format: 'date-time' };
export const integer: Schema = { type: 'integer' };
export const flag: Schema = { type: 'boolean' };
export const id: Schema = { type: 'string', format: 'uuid' };
/** A payload: whatever the app has put there. */
export const anything: Schema = {};
const duration: Schema = {
  type: ['integer', 'string'],
  description: "Milliseconds, or a text such as '1500ms', '10s', '5m', '1h', '2d', '1w'.",
};
export const status: Schema = { enum: RUN_STATUSES };

/** What lists are asked for page by page. */
export const paging = {
  limit: { type: 'integer', minimum: 1, maximum: 1000, default: 50 },
  cursor: { type: 'string', description: 'nextCursor of the page before.' },
} as const satisfies Record<string, Schema>;

export function reference(name: keyof typeof COMPONENTS): Schema {
  return { $ref: `#/components/schemas/${name}` };
}

export function listOf(items: Schema): Schema {
  return { type: 'array', items };
}

export function pageOf(items: Schema): Schema {
  return object({ items: listOf(items) }, { nextCursor: { ...text, description: 'Absent on the last page.' } });
}

/** An object that has all of the first properties, and maybe some of the others. */
export function object(always: Record<string, Schema>, maybe: Record<string, Schema> = {}): Schema {
  return { type: 'object', properties: { ...always, ...maybe }, required: Object.keys(always) };
}

const error: Schema = { $ref: '#/components/schemas/StoredError' };
export const attributes: Schema = {
  type: 'object',
  additionalProperties: { type: ['string', 'number', 'boolean', 'null'] },
};
const count: Schema = { type: 'integer', minimum: 1 };

export const queueLimits: Record<string, Schema> = {
  ...{ concurrency: count, concurrencyPerWorker: count, concurrencyPerTenant: count },
  rateLimit: object({ limit: count, per: duration }),
};

const ACTIVE = { pending: integer, running: integer, waiting: integer, blocked: integer } as const;

const RUN = [
  {
    ...{ id, workflow: text, version: integer, status, paused: flag, queue: text, priority: integer, attributes },
    ...{ rootId: id, depth: integer, createdAt: time, recoveries: integer },
    waitingFor: listOf({ $ref: '#/components/schemas/WaitingFor' }),
    compensation: { enum: ['none', 'running', 'done', 'failed'] },
  },
  {
    ...{ key: text, tenant: text, label: text, state: anything, parentId: id, ref: text, forkedFrom: id },
    ...{ startedAt: time, finishedAt: time, wakeAt: time, workerId: id },
  },
] as const satisfies [Record<string, Schema>, Record<string, Schema>];

/** The schemas that several operations share, by their names in the document. */
export const COMPONENTS = {
  Error: object(
    { statusCode: integer, code: text, message: text },
    { issues: listOf(object({ message: text }, { path: listOf({ type: ['string', 'number'] }) })) },
  ),
  StoredError: {
    ...object({ name: text, message: text }, { code: { type: ['string', 'number'] }, stack: text, cause: error }),
    description: 'An error as it is stored, with its own fields.',
  },
  WaitingFor: object({
    kind: { enum: ['timer', 'signal', 'child', 'input', 'retry'] },
    name: text,
    until: { type: ['string', 'null'], format: 'date-time' },
  }),
  RunSummary: object(...RUN),
  RunDetails: object(
    {
      ...RUN[0],
      heartbeats: listOf(object({ step: text, attempt: integer, at: time }, { progress: anything })),
    },
    { ...RUN[1], input: anything, output: anything, error },
  ),
  HistoryEntry: object(
    {
      ...{ seq: integer, name: text, key: text, attempts: integer, startedAt: time, finishedAt: time },
      kind: {
        enum: ['step', 'timer', 'signal', 'child', 'input', 'decision', 'compensation', 'cancel', 'expiry', 'patch'],
      },
      status: { enum: ['completed', 'failed', 'cancelled', 'timeout'] },
      logs: listOf(
        object(
          {
            ...{ at: time, message: text, attempt: integer },
            level: { enum: ['log', 'error', 'warn', 'debug', 'verbose', 'fatal'] },
          },
          { context: text },
        ),
      ),
    },
    { output: anything, error, childId: id },
  ),
  RunTree: object(
    { id, workflow: text, status, createdAt: time, children: listOf({ $ref: '#/components/schemas/RunTree' }) },
    { ref: text, label: text, startedAt: time, finishedAt: time },
  ),
  RunRef: object({ id, started: { ...flag, description: 'False: it was there already.' } }),
  PendingInput: object(
    { runId: id, workflow: text, name: text, type: { enum: ['approval', 'choice', 'text', 'form'] } },
    { prompt: text, choices: listOf(text), expiresAt: time },
  ),
  QueueLimits: object({}, queueLimits),
  QueueState: object({
    ...{ name: text, paused: flag, pending: integer, running: integer },
    limits: { $ref: '#/components/schemas/QueueLimits' },
    oldestDueAt: { type: ['string', 'null'], format: 'date-time' },
  }),
  Stats: object(
    {
      runs: object(Object.fromEntries(RUN_STATUSES.map((name) => [name, integer]))),
      estimated: listOf(status),
      queues: listOf(object({ queue: text, ...ACTIVE }, { oldestDueAt: time })),
      workflows: listOf(object({ workflow: text, ...ACTIVE })),
      tables: listOf(object({ name: text, rows: integer, bytes: integer })),
    },
    { oldestDueAt: time },
  ),
  Worker: object({
    ...{ id, host: text, pid: integer, startedAt: time, heartbeatAt: time, alive: flag, running: integer },
    ...{ queues: listOf(text), workflows: listOf(text) },
  }),
  Schedule: object(
    {
      ...{ id: text, workflow: text, timeZone: text, jitter: integer, declared: flag, paused: flag, createdAt: time },
      overlap: { enum: ['skip', 'allow', 'cancel', 'buffer'] },
      missed: { enum: ['skip', 'once', 'all'] },
    },
    { cron: text, every: integer, lastRunAt: time, lastRunId: id, nextRunAt: time, input: anything },
  ),
} as const satisfies Record<string, Schema>;
