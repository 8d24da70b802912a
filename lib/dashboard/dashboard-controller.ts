import {
  Body,
  type CanActivate,
  Controller,
  Get,
  HttpException,
  Inject,
  NotFoundException,
  Param,
  Req,
  RequestMapping,
  RequestMethod,
  Res,
  type Type,
  UseGuards,
  VERSION_NEUTRAL,
} from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import type { ServerResponse } from 'node:http';
import { OrchestrationError } from '../engine/errors.js';
import { Orchestrator } from '../engine/orchestrator.js';
import { DASHBOARD_OPTIONS, DashboardAccess, type DashboardRequest } from './access.js';
import type { OrchestrationDashboardOptions } from './dashboard-options.js';
import { EventStreams } from './event-streams.js';
import { toJson } from './json.js';
import { openApiDocument } from './open-api.js';
import { type AnyOperation, type Sent, SentChecks } from './operation.js';
import { OPERATIONS } from './operations/all.js';
import { indexPage, pageAsset, type PageFile } from './page-files.js';

/** Under which the controller gets the Orchestrator of its engine. */
export const DASHBOARD_ORCHESTRATOR = Symbol('Orchestrator of the dashboard');

const METHODS = {
  get: RequestMethod.GET,
  post: RequestMethod.POST,
  put: RequestMethod.PUT,
  delete: RequestMethod.DELETE,
} as const satisfies Record<AnyOperation['method'], RequestMethod>;

/** Fastify's reply has the response of Node in it, and has to be told that somebody else answers. */
interface FastifyReply {
  raw: ServerResponse;
  hijack(): void;
  getHeaders(): Record<string, number | string | string[] | undefined>;
}

interface Arguments extends Sent {
  params: Record<string, string>;
}

/**
 * What answers the requests, on Express and on Fastify alike. It writes its answers itself, so that interceptors of the app
 * which wrap what controllers return do not change what the page gets.
 */
class DashboardRoutes {
  constructor(
    @Inject(DASHBOARD_ORCHESTRATOR) private readonly orchestrator: Orchestrator,
    @Inject(DASHBOARD_OPTIONS) private readonly options: OrchestrationDashboardOptions,
    @Inject(EventStreams) private readonly streams: EventStreams,
    @Inject(DashboardAccess) private readonly access: DashboardAccess,
    @Inject(HttpAdapterHost) private readonly host: HttpAdapterHost,
  ) {}

  @Get()
  async getPage(@Req() { originalUrl }: DashboardRequest, @Res() response: unknown): Promise<void> {
    this.reply(response, await indexPage(originalUrl));
  }

  @Get('assets/:name')
  async getAsset(@Param('name') name: string, @Res() response: unknown): Promise<void> {
    const asset = await pageAsset(name);
    if (!asset) throw new NotFoundException();
    this.reply(response, asset);
  }

  @Get('api/access')
  getAccess(@Req() request: DashboardRequest, @Res() response: unknown): void {
    this.answer(response, { mayChange: this.access.mayChange(request), engine: this.options.name });
  }

  @Get('api/openapi.json')
  getOpenApi(@Req() { originalUrl }: DashboardRequest, @Res() response: unknown): void {
    this.answer(response, openApiDocument(originalUrl.replace(/\/openapi\.json(\?.*)?$/, '')));
  }

  @Get('api/events')
  streamEvents(@Res() response: ServerResponse | FastifyReply): void {
    this.streams.checkRoom();
    this.streams.open('hijack' in response ? rawOf(response) : response);
  }

  /** Runs an operation, and answers what it gives, or with the status of its error. */
  protected async run(operation: AnyOperation, { sent, response }: { sent: Arguments; response: unknown }) {
    try {
      const checked = checksOf(operation).check(sent);
      const { orchestrator } = this;
      this.answer(response, await operation.call({ orchestrator, params: sent.params, ...checked }));
    } catch (error) {
      throw error instanceof OrchestrationError ? toHttp(error) : error;
    }
  }

  private answer(response: unknown, value: unknown): void {
    const headers = { 'Cache-Control': 'no-store', 'Content-Type': 'application/json; charset=utf-8' };
    if (value === undefined) this.host.httpAdapter.reply(response, undefined, 204);
    else this.reply(response, { text: toJson(value), headers });
  }

  private reply(response: unknown, { text, headers }: PageFile): void {
    const { httpAdapter } = this.host;
    for (const [name, value] of Object.entries(headers)) httpAdapter.setHeader(response, name, value);
    httpAdapter.reply(response, text, 200);
  }
}

/** A controller at that path behind those guards: a class of its own, since an app may have several dashboards. */
export function dashboardController(path: string, guards: readonly (Type<CanActivate> | CanActivate)[]): Type {
  @Controller({ path, version: VERSION_NEUTRAL })
  @UseGuards(...guards, DashboardAccess)
  class OrchestrationDashboardController extends DashboardRoutes {}
  for (const operation of OPERATIONS) addRoute(OrchestrationDashboardController.prototype, operation);
  return OrchestrationDashboardController;
}

function addRoute(routes: DashboardRoutes, operation: AnyOperation): void {
  const { id, method, path } = operation;
  const handler = async function (
    this: DashboardRoutes,
    { params, query }: { params: Record<string, string>; query: unknown },
    body: unknown,
    response: unknown,
  ): Promise<void> {
    await this['run'](operation, { sent: { params, query, body }, response });
  };
  Object.defineProperty(routes, id, { value: handler, configurable: true });
  Req()(routes, id, 0);
  Body()(routes, id, 1);
  Res()(routes, id, 2);
  const descriptor = Object.getOwnPropertyDescriptor(routes, id)!;
  RequestMapping({ path: `api/${path}`, method: METHODS[method] })(routes, id, descriptor);
}

const checks = new Map<AnyOperation, SentChecks>();

/** Compiled when the operation is first asked for. */
function checksOf(operation: AnyOperation): SentChecks {
  const known = checks.get(operation) ?? new SentChecks(operation);
  checks.set(operation, known);
  return known;
}

function toHttp(error: OrchestrationError): HttpException {
  const { statusCode = 500, code, message } = error;
  const details = 'issues' in error ? { issues: error.issues } : {};
  return new HttpException({ statusCode, code, message, ...details }, statusCode, { cause: error });
}

/** What others have put into the reply's header goes with it. */
function rawOf(reply: FastifyReply): ServerResponse {
  reply.hijack();
  for (const [name, value] of Object.entries(reply.getHeaders())) {
    if (value !== undefined) reply.raw.setHeader(name, value);
  }
  return reply.raw;
}
