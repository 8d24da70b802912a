import type { InputFilter } from '../../engine/input-store.js';
import { operation } from '../operation.js';
import { anything, pageOf, paging, reference, text, time } from '../schemas.js';

export const INPUT_OPERATIONS = [
  operation<Omit<InputFilter, 'expiringBefore'> & { expiringBefore?: string }>({
    id: 'listInputs',
    method: 'get',
    path: 'inputs',
    summary: 'What runs wait for people to answer, the longest waiting first, page by page',
    query: { workflow: text, expiringBefore: time, ...paging },
    answer: pageOf(reference('PendingInput')),
    call: ({ orchestrator, query: { expiringBefore, ...filter } }) =>
      orchestrator.inputs.list({
        ...filter,
        ...(expiringBefore !== undefined && { expiringBefore: new Date(expiringBefore) }),
      }),
  }),
  operation<unknown, { value: unknown }>({
    id: 'provideInput',
    method: 'post',
    path: 'runs/:runId/inputs/:name',
    summary: 'Answers an input',
    body: { properties: { value: anything }, required: ['value'] },
    errors: [404, 409, 422, 503],
    call: ({ orchestrator, params, body }) =>
      orchestrator.inputs.provide(params['runId']!, params['name']!, body.value),
  }),
];
