import type { BulkAction, BulkFilter } from '../../engine/bulk.js';
import { ValidationError } from '../../engine/errors.js';
import type { CancelOptions, ForkOptions } from '../../engine/orchestrator.js';
import type { Attributes } from '../../engine/run.js';
import type { ListFilter } from '../../engine/run-queries.js';
import { closed, operation, type Schema } from '../operation.js';
import {
  anything,
  attributes,
  flag,
  id,
  integer,
  listOf,
  object,
  pageOf,
  paging,
  reference,
  status,
  text,
  time,
} from '../schemas.js';

/** The filter of a list, as a query has it. */
interface ListQuery extends Omit<ListFilter, 'attributes' | 'createdAfter' | 'createdBefore'> {
  attributes?: string;
  createdAfter?: string;
  createdBefore?: string;
}

interface BulkBody {
  filter: Omit<BulkFilter, 'createdAfter' | 'createdBefore'> & { createdAfter?: string; createdBefore?: string };
  action: BulkAction;
  dryRun?: boolean;
}

const FILTER: Record<string, Schema> = {
  ...{ workflow: text, version: integer, status: listOf(status), queue: text, tenant: text, parentId: id },
  ...{ rootOnly: flag, createdAfter: time, createdBefore: time },
  search: { ...text, description: 'A run id, or a part of a key or label.' },
};

export const RUN_OPERATIONS = [
  operation<ListQuery>({
    id: 'listRuns',
    method: 'get',
    path: 'runs',
    summary: 'Runs without their payloads, newest first, page by page',
    query: {
      ...FILTER,
      attributes: { ...text, contentMediaType: 'application/json', description: 'Runs that have all of these.' },
      ...paging,
    },
    answer: pageOf(reference('RunSummary')),
    call: ({ orchestrator, query }) => orchestrator.list(toFilter(query)),
  }),
  operation({
    id: 'getRun',
    method: 'get',
    path: 'runs/:runId',
    summary: 'A run with its payloads, and what it waits for',
    answer: reference('RunDetails'),
    errors: [404],
    call: ({ orchestrator, params }) => orchestrator.get(params['runId']!),
  }),
  operation({
    id: 'getHistory',
    method: 'get',
    path: 'runs/:runId/history',
    summary: 'The recorded outcomes of a run, in their order',
    answer: listOf(reference('HistoryEntry')),
    errors: [404],
    call: async ({ orchestrator, params }) => {
      const history = await orchestrator.history(params['runId']!);
      // That of a run without outcomes is as empty as that of no run.
      if (history.length === 0) await orchestrator.get(params['runId']!);
      return history;
    },
  }),
  operation({
    id: 'getTree',
    method: 'get',
    path: 'runs/:runId/tree',
    summary: 'A run and its descendants',
    answer: reference('RunTree'),
    errors: [404],
    call: ({ orchestrator, params }) => orchestrator.tree(params['runId']!),
  }),
  operation<unknown, { name: string; payload?: unknown; id?: string }>({
    id: 'signalRun',
    method: 'post',
    path: 'runs/:runId/signal',
    summary: 'Sends a signal to a run',
    body: { properties: { name: text, payload: anything, id: text }, required: ['name'] },
    errors: [404, 409, 422],
    call: ({ orchestrator, params, body: { name, payload, id: signalId } }) =>
      orchestrator.signal(params['runId']!, name, payload, { id: signalId }),
  }),
  operation<unknown, CancelOptions>({
    id: 'cancelRun',
    method: 'post',
    path: 'runs/:runId/cancel',
    summary: 'Cancels a run and all its active descendants',
    body: { properties: { reason: text, mode: { enum: ['graceful', 'terminate'] } } },
    answer: object({ cancelled: integer, requested: integer }),
    errors: [404],
    call: ({ orchestrator, params, body }) => orchestrator.cancel(params['runId']!, body),
  }),
  operation({
    id: 'retryRun',
    method: 'post',
    path: 'runs/:runId/retry',
    summary: 'Lets a failed, cancelled or blocked run go on from its last recorded outcome',
    errors: [404, 409],
    call: ({ orchestrator, params }) => orchestrator.retry(params['runId']!),
  }),
  operation({
    id: 'pauseRun',
    method: 'post',
    path: 'runs/:runId/pause',
    summary: 'Lets a run not be claimed; a running step ends first',
    errors: [404, 409],
    call: ({ orchestrator, params }) => orchestrator.pause(params['runId']!),
  }),
  operation({
    id: 'resumeRun',
    method: 'post',
    path: 'runs/:runId/resume',
    summary: 'Lets a paused run go on',
    errors: [404, 409],
    call: ({ orchestrator, params }) => orchestrator.resume(params['runId']!),
  }),
  operation<unknown, ForkOptions>({
    id: 'forkRun',
    method: 'post',
    path: 'runs/:runId/fork',
    summary: 'Starts a run that shares the history of this one before a step',
    body: {
      properties: { fromStep: text, input: { description: 'Default: the input of the original.' } },
      required: ['fromStep'],
    },
    answer: reference('RunRef'),
    errors: [404, 422],
    call: async ({ orchestrator, params, body }) => {
      const { id: forkId, started } = await orchestrator.fork(params['runId']!, body);
      return { id: forkId, started };
    },
  }),
  operation({
    id: 'deleteRun',
    method: 'delete',
    path: 'runs/:runId',
    summary: 'Deletes a finished run and all its descendants',
    errors: [404, 409],
    call: ({ orchestrator, params }) => orchestrator.delete(params['runId']!),
  }),
  operation<unknown, BulkBody>({
    id: 'changeRuns',
    method: 'post',
    path: 'bulk',
    summary: 'Cancels, retries or deletes all runs of a filter, or only counts them',
    body: {
      properties: {
        filter: { ...closed({ properties: { ...FILTER, attributes } }), minProperties: 1 },
        action: { enum: ['cancel', 'retry', 'delete'] },
        dryRun: flag,
      },
      required: ['filter', 'action'],
    },
    answer: object({ matched: integer, done: integer }),
    call: ({ orchestrator, body: { filter, action, dryRun } }) =>
      orchestrator.bulk({ filter: withDates(filter), action }, { dryRun }),
  }),
];

function toFilter({ attributes: json, ...query }: ListQuery): ListFilter {
  return { ...withDates(query), ...(json !== undefined && { attributes: parseAttributes(json) }) };
}

function withDates<Filter extends { createdAfter?: string; createdBefore?: string }>(filter: Filter) {
  const { createdAfter, createdBefore, ...rest } = filter;
  return {
    ...rest,
    ...(createdAfter !== undefined && { createdAfter: new Date(createdAfter) }),
    ...(createdBefore !== undefined && { createdBefore: new Date(createdBefore) }),
  };
}

function parseAttributes(json: string): Attributes {
  try {
    return JSON.parse(json) as Attributes;
  } catch {
    throw new ValidationError('The query of listRuns', [
      { message: `attributes must be JSON, such as {"city":"Oslo"}, not '${json}'`, path: ['attributes'] },
    ]);
  }
}
