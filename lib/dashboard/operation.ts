import { Ajv2020, type ErrorObject, type ValidateFunction } from 'ajv/dist/2020.js';
import { ValidationError } from '../engine/errors.js';
import type { Orchestrator } from '../engine/orchestrator.js';

/** A JSON Schema, as OpenAPI 3.1 has them. */
export type Schema = Readonly<Record<string, unknown>>;

/** What an operation is called with: checked and, in the query, converted. */
export interface Call<Query, Body> {
  orchestrator: Orchestrator;
  params: Record<string, string>;
  query: Query;
  body: Body;
}

/**
 * One operation of the API. All there is to it comes from here: its route, the check of what is sent, and its place in the
 * OpenAPI document. One that is no `get` makes a change.
 */
export interface Operation<Query = never, Body = never> {
  id: string;
  method: 'get' | 'post' | 'put' | 'delete';
  /** Below `<path>/api/`, with its parameters as `:name`. */
  path: string;
  summary: string;
  /** The schema of each query parameter. */
  query?: Record<string, Schema>;
  /** The properties of the body, an object. */
  body?: { properties: Record<string, Schema>; required?: string[] };
  /** What it answers. Default: nothing (204). */
  answer?: Schema;
  /** The statuses of its errors, beside those that any operation may have. */
  errors?: readonly (404 | 409 | 422 | 503)[];
  call(call: Call<Query, Body>): Promise<unknown>;
}

/** An operation among others, whose query and body have been checked before they come to it. */
export type AnyOperation = Operation<unknown, unknown>;

export function operation<Query = unknown, Body = unknown>(described: Operation<Query, Body>): AnyOperation {
  return described;
}

/** What a request sends to an operation, as the platform has parsed it. */
export interface Sent {
  query: unknown;
  body: unknown;
}

/** Checks what is sent: the query is made of texts, so they are converted; nothing unknown is let pass. */
export class SentChecks {
  private readonly ofQuery: ValidateFunction;
  private readonly ofBody: ValidateFunction;

  constructor(private readonly described: AnyOperation) {
    const { query = {}, body = { properties: {} } } = described;
    const options = { allErrors: true, validateFormats: false, allowUnionTypes: true } as const;
    this.ofQuery = new Ajv2020({ ...options, coerceTypes: 'array' }).compile(closed({ properties: query }));
    this.ofBody = new Ajv2020(options).compile(closed(body));
  }

  /** @throws ValidationError */
  check({ query, body }: Sent): { query: unknown; body: unknown } {
    const checked = { query: { ...(query as object) }, body: body ?? {} };
    if (!this.ofQuery(checked.query)) throw this.refusal('query', this.ofQuery.errors);
    if (!this.ofBody(checked.body)) throw this.refusal('body', this.ofBody.errors);
    return checked;
  }

  private refusal(place: string, errors: readonly ErrorObject[] | null | undefined): ValidationError {
    return new ValidationError(`The ${place} of ${this.described.id}`, (errors ?? []).map(issueOf));
  }
}

/** The schema of an object with these properties and no others. */
export function closed({ properties, required = [] }: { properties: object; required?: string[] }): Schema {
  return { type: 'object', properties, required, additionalProperties: false };
}

function issueOf({ instancePath, message, params }: ErrorObject): { message: string; path: string[] } {
  const path = instancePath.split('/').slice(1);
  const { additionalProperty, allowedValues } = params as { additionalProperty?: string; allowedValues?: unknown[] };
  if (additionalProperty !== undefined)
    return { message: `${additionalProperty} is unknown`, path: [...path, additionalProperty] };
  const allowed = allowedValues ? `: ${allowedValues.join(', ')}` : '';
  return { message: `${path.join('.')} ${message}${allowed}`.trim(), path };
}
