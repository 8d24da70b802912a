import { type AnyOperation, closed, type Schema } from './operation.js';
import { OPERATIONS } from './operations/all.js';
import { COMPONENTS, flag, object, reference, text } from './schemas.js';

const ERRORS = {
  400: 'What was sent is wrong: `issues` says why',
  403: 'Refused by a guard, for want of a role, or because the dashboard is read-only',
  404: 'There is no such thing',
  409: 'It is not in a state for this',
  422: 'The payload cannot be stored',
  500: 'The server failed',
  503: 'It cannot be done at the moment',
} as const;

/** The OpenAPI document of the API, made of what its routes are made of. `server`: the address of the API. */
export function openApiDocument(server: string): object {
  return {
    openapi: '3.1.0',
    info: {
      title: 'nestjs-orchestration',
      version: '1',
      description:
        'Payloads are JSON: a bigint is a text, a Date is in ISO, bytes are in base64, a Set is a list, a Map is a list of pairs.',
    },
    servers: [{ url: server }],
    paths: pathsOf(OPERATIONS),
    components: { schemas: COMPONENTS },
  };
}

/** What the page asks first: what the one who looks may do. */
const ACCESS: Schema = object({ mayChange: flag }, { engine: { ...text, description: 'The name of a named engine.' } });

function pathsOf(operations: readonly AnyOperation[]): Record<string, object> {
  const paths: Record<string, Record<string, object>> = {
    '/access': { get: described({ id: 'getAccess', summary: 'What you may do here', answer: ACCESS }) },
    '/events': {
      get: {
        operationId: 'streamEvents',
        summary: 'What happens to runs in the process that answers, as server-sent events',
        responses: {
          200: { description: 'A stream without end', content: { 'text/event-stream': { schema: text } } },
          ...failures([403, 503]),
        },
      },
    },
  };
  for (const operation of operations) {
    const path = `/${operation.path.replace(/:(\w+)/g, '{$1}')}`;
    paths[path] = { ...paths[path], [operation.method]: described(operation) };
  }
  return paths;
}

type Described = Pick<AnyOperation, 'id' | 'summary' | 'answer'> & Partial<AnyOperation>;

function described({ id, summary, path = '', query = {}, body, answer, errors = [] }: Described): object {
  const inPath = [...path.matchAll(/:(\w+)/g)].map(([, name]) => ({
    ...{ name, in: 'path', required: true, schema: text },
  }));
  const inQuery = Object.entries(query).map(([name, schema]) => ({ name, in: 'query', schema }));
  const parameters = [...inPath, ...inQuery];
  const success = answer
    ? { 200: { description: 'The answer', content: json(answer) } }
    : { 204: { description: 'It is done' } };
  return {
    operationId: id,
    summary,
    ...(parameters.length > 0 && { parameters }),
    ...(body && { requestBody: { required: (body.required ?? []).length > 0, content: json(closed(body)) } }),
    responses: { ...success, ...failures([400, 403, ...errors, 500]) },
  };
}

function failures(statuses: readonly (keyof typeof ERRORS)[]): Record<string, object> {
  return Object.fromEntries(
    statuses.map((status) => [status, { description: ERRORS[status], content: json(reference('Error')) }]),
  );
}

function json(schema: Schema): object {
  return { 'application/json': { schema } };
}
