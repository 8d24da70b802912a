import type { QueueLimits } from '../../engine/queue-limits.js';
import { operation } from '../operation.js';
import { listOf, queueLimits, reference } from '../schemas.js';

export const QUEUE_OPERATIONS = [
  operation({
    id: 'listQueues',
    method: 'get',
    path: 'queues',
    summary: 'Every queue that has limits, is paused or has runs that are not finished',
    answer: listOf(reference('QueueState')),
    call: ({ orchestrator }) => orchestrator.queues.list(),
  }),
  operation({
    id: 'pauseQueue',
    method: 'post',
    path: 'queues/:name/pause',
    summary: 'Lets nothing more be claimed from a queue; what is running goes on',
    call: ({ orchestrator, params }) => orchestrator.queues.pause(params['name']!),
  }),
  operation({
    id: 'resumeQueue',
    method: 'post',
    path: 'queues/:name/resume',
    summary: 'Lets a paused queue be claimed from again',
    call: ({ orchestrator, params }) => orchestrator.queues.resume(params['name']!),
  }),
  operation<unknown, QueueLimits>({
    id: 'configureQueue',
    method: 'put',
    path: 'queues/:name/limits',
    summary: 'Sets the limits of a queue, instead of those that the configuration of the app says',
    body: { properties: queueLimits },
    call: ({ orchestrator, params, body }) => orchestrator.queues.configure(params['name']!, body),
  }),
  operation({
    id: 'resetQueue',
    method: 'delete',
    path: 'queues/:name/limits',
    summary: 'Back to the limits that the configuration of the app says',
    call: ({ orchestrator, params }) => orchestrator.queues.reset(params['name']!),
  }),
];
