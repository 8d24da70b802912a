import { Ajv2020 } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';

/** The parts of an OpenAPI document that a client goes by. */
export interface OpenApiDocument {
  servers: { url: string }[];
  paths: Record<string, Record<string, DocumentedOperation>>;
  components: { schemas: object };
}

interface DocumentedOperation {
  operationId: string;
  responses: Record<string, { content?: Record<string, { schema: object }> }>;
}

interface Request {
  params?: Record<string, string>;
  query?: Record<string, string | string[]>;
  body?: unknown;
}

export interface Answer<Body> {
  status: number;
  body: Body;
}

/**
 * Calls operations by what the OpenAPI document says of them, and nothing else. An answer that is not among those that the
 * document names, or has another shape, is an error.
 */
export class ApiClient {
  readonly called = new Set<string>();
  private readonly ajv = new Ajv2020({ strict: false, allErrors: true });

  constructor(
    private readonly url: string,
    readonly document: OpenApiDocument,
  ) {
    (formats as unknown as (ajv: Ajv2020) => void)(this.ajv);
    this.ajv.addSchema({ $id: 'api', components: document.components });
  }

  static async of(url: string): Promise<ApiClient> {
    const response = await fetch(`${url}/api/openapi.json`);
    const document = (await response.json()) as OpenApiDocument;
    return new ApiClient(new URL(document.servers[0]!.url, url).href, document);
  }

  get operations(): string[] {
    return Object.values(this.document.paths).flatMap((methods) =>
      Object.values(methods).map(({ operationId }) => operationId),
    );
  }

  async call<Body>(operationId: string, { params = {}, query = {}, body }: Request = {}): Promise<Answer<Body>> {
    const { path, method, operation } = this.find(operationId);
    const target = new URL(
      this.url + path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(params[name]!)),
    );
    for (const [name, values] of Object.entries(query))
      for (const value of [values].flat()) target.searchParams.append(name, value);
    const response = await fetch(target, {
      method: method.toUpperCase(),
      ...(body !== undefined && { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    });
    this.called.add(operationId);
    const text = await response.text();
    const answer = text === '' ? undefined : (JSON.parse(text) as unknown);
    this.check(operation, response.status, answer);
    return { status: response.status, body: answer as Body };
  }

  private check({ operationId, responses }: DocumentedOperation, status: number, answer: unknown): void {
    const documented = responses[status];
    if (!documented) throw new Error(`${operationId} answers ${status}, undocumented: ${JSON.stringify(answer)}`);
    const schema = documented.content?.['application/json']?.schema;
    if (!schema) {
      if (answer !== undefined) throw new Error(`${operationId} answers something: ${JSON.stringify(answer)}`);
      return;
    }
    const absolute = JSON.parse(JSON.stringify(schema).replaceAll('"#/', '"api#/')) as object;
    const validate = this.ajv.compile(absolute);
    if (!validate(answer))
      throw new Error(`${operationId}: ${this.ajv.errorsText(validate.errors)}: ${JSON.stringify(answer)}`);
  }

  private find(operationId: string) {
    for (const [path, methods] of Object.entries(this.document.paths))
      for (const [method, operation] of Object.entries(methods))
        if (operation.operationId === operationId) return { path, method, operation };
    throw new Error(`The document has no operation ${operationId}`);
  }
}
