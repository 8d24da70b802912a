import type { CanActivate, ModuleMetadata, Type } from '@nestjs/common';

/** Who may do what, by the roles of the request's user. */
export interface DashboardRoles {
  /** May look. Default: everybody whom the guards let through. */
  view?: readonly string[];
  /** May look and change. Default: everybody who may look. */
  operate?: readonly string[];
  /** The roles of a request. Default: `request.user.roles`, as guards usually leave them. */
  of?: (request: unknown) => readonly string[] | undefined;
}

/** Options of `OrchestrationDashboardModule.forRoot`. */
export interface OrchestrationDashboardOptions {
  /** Where the page is, below the app's global prefix. Default `'/orchestration'`. */
  path?: string;
  /**
   * Who may come in: guard classes, or instances. They apply to the page, the API and the live updates alike. Needed where
   * NODE_ENV is `production`.
   */
  guards?: (Type<CanActivate> | CanActivate)[];
  /** Asked after the guards. */
  roles?: DashboardRoles;
  /** Refuses every change, whoever asks. Default false. */
  readOnly?: boolean;
  /** Of the engine that is shown: `name` of its `OrchestrationModule.forRoot`. */
  name?: string;
  /** Modules that export what the guards inject. */
  imports?: ModuleMetadata['imports'];
}

const OPTIONS: readonly string[] = [
  'path',
  'guards',
  'roles',
  'readOnly',
  'name',
  'imports',
] satisfies (keyof OrchestrationDashboardOptions)[];
const ROLES: readonly string[] = ['view', 'operate', 'of'] satisfies (keyof DashboardRoles)[];

/** What is wrong with the options, for the report at boot. */
export function dashboardProblems(options: OrchestrationDashboardOptions): string[] {
  const { path, guards = [], roles = {}, readOnly, name } = options;
  const problems = unknown('forRoot', options, OPTIONS);
  if (path !== undefined && !isPath(path)) problems.push(`path must be a path without parameters, not '${path}'`);
  const isListOfGuards = Array.isArray(guards) && guards.every(isGuard);
  if (!isListOfGuards) problems.push('guards must be a list of guard classes or instances');
  if (readOnly !== undefined && typeof readOnly !== 'boolean')
    problems.push(`readOnly must be true or false, not '${String(readOnly)}'`);
  if (name !== undefined && (typeof name !== 'string' || name === ''))
    problems.push(`name must be the name of an engine, not '${name}'`);
  problems.push(...rolesProblems(roles));
  if (process.env['NODE_ENV'] === 'production' && isListOfGuards && guards.length === 0)
    problems.push(
      'guards are needed in production (NODE_ENV): whoever reaches the dashboard sees all payloads, and can cancel all runs',
    );
  return problems.map((problem) => `OrchestrationDashboardModule: ${problem}`);
}

function rolesProblems(roles: DashboardRoles | null): string[] {
  if (typeof roles !== 'object' || roles === null)
    return [`roles must be an object with ${ROLES.join(', ')}, not ${String(roles)}`];
  const problems = unknown('roles', roles, ROLES);
  for (const right of ['view', 'operate'] as const) {
    if (roles[right] !== undefined && !isListOfRoles(roles[right]))
      problems.push(`roles.${right} must be a list of at least one role`);
  }
  if (roles.of !== undefined && typeof roles.of !== 'function') problems.push('roles.of must be a function');
  return problems;
}

function unknown(where: string, given: object, known: readonly string[]): string[] {
  return Object.keys(given)
    .filter((option) => !known.includes(option))
    .map((option) => `${where}: unknown option '${option}' (known: ${known.join(', ')})`);
}

/** Of plain segments: a parameter in it would let the page be at many places. */
function isPath(path: unknown): boolean {
  return typeof path === 'string' && /^[\w\-./~]*$/.test(path);
}

function isGuard(guard: unknown): boolean {
  const guarding = (typeof guard === 'function' ? guard.prototype : guard) as { canActivate?: unknown } | null;
  return typeof guarding?.canActivate === 'function';
}

function isListOfRoles(roles: unknown): boolean {
  return Array.isArray(roles) && roles.length > 0 && roles.every((role) => typeof role === 'string');
}
