import { operation } from '../operation.js';
import { listOf, reference } from '../schemas.js';

export const FLEET_OPERATIONS = [
  operation({
    id: 'getStats',
    method: 'get',
    path: 'stats',
    summary: 'How many runs there are, by status, queue and workflow, and how large the tables are',
    answer: reference('Stats'),
    call: ({ orchestrator }) => orchestrator.stats(),
  }),
  operation({
    id: 'listWorkers',
    method: 'get',
    path: 'workers',
    summary: 'The processes that execute runs',
    answer: listOf(reference('Worker')),
    call: ({ orchestrator }) => orchestrator.workers.list(),
  }),
];
