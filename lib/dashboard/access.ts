import { type CanActivate, type ExecutionContext, ForbiddenException, Inject, Injectable } from '@nestjs/common';
import type { OrchestrationDashboardOptions } from './dashboard-options.js';

export const DASHBOARD_OPTIONS = Symbol('OrchestrationDashboardOptions');

/** What the dashboard reads of a request, on Express and on Fastify. */
export interface DashboardRequest {
  method: string;
  originalUrl: string;
  headers: Record<string, string | string[] | undefined>;
}

/** What a request may do, by `readOnly` and the roles. The app's own guards have been asked before. */
@Injectable()
export class DashboardAccess implements CanActivate {
  constructor(@Inject(DASHBOARD_OPTIONS) private readonly options: OrchestrationDashboardOptions) {}

  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<DashboardRequest>();
    if (!this.mayView(request)) throw refusal('ROLE_MISSING', 'None of your roles may see the dashboard.');
    if (request.method === 'GET' || request.method === 'HEAD') return true;
    if (isFromElsewhere(request))
      throw refusal('CROSS_SITE', 'A page of another site has sent this request: it is refused.');
    if (this.options.readOnly) throw refusal('READ_ONLY', 'This dashboard is read-only (readOnly: true).');
    if (!this.mayOperate(request)) throw refusal('ROLE_MISSING', 'None of your roles may change anything.');
    return true;
  }

  mayChange(request: DashboardRequest): boolean {
    return !this.options.readOnly && this.mayOperate(request);
  }

  private mayView(request: DashboardRequest): boolean {
    const { view, operate = [] } = this.options.roles ?? {};
    return view === undefined || this.hasOneOf([...view, ...operate], request);
  }

  private mayOperate(request: DashboardRequest): boolean {
    const { operate } = this.options.roles ?? {};
    return operate === undefined || this.hasOneOf(operate, request);
  }

  private hasOneOf(wanted: readonly string[], request: DashboardRequest): boolean {
    const { of = rolesOfUser } = this.options.roles ?? {};
    const roles = of(request);
    return Array.isArray(roles) && wanted.some((role) => roles.includes(role));
  }
}

function rolesOfUser(request: unknown): readonly string[] | undefined {
  return (request as { user?: { roles?: readonly string[] } }).user?.roles;
}

/**
 * Whether a browser says that a page of another origin made it send this, with the cookies of its user. Requests of programs
 * say nothing of the kind.
 */
function isFromElsewhere({ headers }: DashboardRequest): boolean {
  const site = headers['sec-fetch-site'];
  if (site !== undefined) return site !== 'same-origin' && site !== 'none';
  const { origin, host } = headers;
  return typeof origin === 'string' && (!URL.canParse(origin) || new URL(origin).host !== host);
}

function refusal(code: string, message: string): ForbiddenException {
  return new ForbiddenException({ statusCode: 403, code, message });
}
