import { Injectable } from '@nestjs/common';
import { ModuleRef } from '@nestjs/core';
import { type Duration, parseDuration, tryParseDuration } from '../engine/duration.js';
import { endsWithin } from '../engine/ends-within.js';
import { ValidationError } from '../engine/errors.js';
import type { EngineHealth } from '../engine/health.js';
import type { EngineHost } from '../nest/engine-host.js';
import { hostToken } from '../nest/tokens.js';

/** What `isHealthy` lets pass. Every option is optional. */
export interface HealthOptions {
  /** The engine's name, when its module has one. */
  name?: string;
  /** How long the worker may go without a look at the database, or with something that it cannot claim. Default: its lease. */
  maxClaimAge?: Duration;
  /** How long a run may be due and not claimed, on a queue that this process serves (without a worker: that any does). Default `'5m'`. */
  maxOldestDue?: Duration;
  /** How long the runs of a dead worker may wait until they are taken over. Default `'1m'`. */
  maxTakeover?: Duration;
  /** How long the database may take to answer. Default `'3s'`. */
  timeout?: Duration;
}

/** A result as Terminus takes it. */
export type HealthResult<Key extends string = string> = Record<
  Key,
  { status: 'up' | 'down'; problems?: string[] } & Partial<EngineHealth>
>;

const DEFAULTS = { maxOldestDue: '5m', maxTakeover: '1m', timeout: '3s' } as const satisfies HealthOptions;
const DURATIONS = new Set(['maxClaimAge', ...Object.keys(DEFAULTS)]);

/**
 * Whether runs go on, for `HealthCheckService` of `@nestjs/terminus`: not merely whether the database is connected. Works in
 * processes without a worker, too.
 */
@Injectable()
export class OrchestrationHealthIndicator {
  constructor(private readonly moduleRef: ModuleRef) {}

  /** Never rejects for an engine that is not well: that is a result. @throws ValidationError for bad options */
  async isHealthy<Key extends string>(key: Key, options: HealthOptions = {}): Promise<HealthResult<Key>> {
    check(options);
    const timeoutMs = parseDuration(options.timeout ?? DEFAULTS.timeout);
    try {
      const health = await within(timeoutMs, this.lookAt(options.name));
      const problems = problemsOf(health, options);
      const result = problems.length ? { status: 'down' as const, problems } : { status: 'up' as const };
      return { [key]: { ...result, ...health } } as HealthResult<Key>;
    } catch (error) {
      const problems = [error instanceof Error ? error.message : String(error)];
      return { [key]: { status: 'down', problems } } as HealthResult<Key>;
    }
  }

  private async lookAt(name: string | undefined): Promise<EngineHealth> {
    const host = this.moduleRef.get<EngineHost>(hostToken(name), { strict: false });
    return (await host.engine()).health();
  }
}

function problemsOf({ worker, oldestDueMs, deadWorkers }: EngineHealth, options: HealthOptions): string[] {
  const problems: string[] = [];
  if (worker && !worker.hasLease) problems.push(`worker ${worker.id} has lost its lease and executes nothing`);
  if (worker && worker.claimAgeMs > parseDuration(options.maxClaimAge ?? worker.leaseMs))
    problems.push(`worker ${worker.id} has not looked for runs, or could not claim them, for ${worker.claimAgeMs} ms`);
  if (oldestDueMs !== null && oldestDueMs > parseDuration(options.maxOldestDue ?? DEFAULTS.maxOldestDue))
    problems.push(`a run has been due for ${oldestDueMs} ms and nobody has claimed it`);
  for (const { id, host, pid, deadMs } of deadWorkers)
    if (deadMs > parseDuration(options.maxTakeover ?? DEFAULTS.maxTakeover))
      problems.push(`worker ${id} (${host}, pid ${pid}) has been dead for ${deadMs} ms and still has runs`);
  return problems;
}

function check(options: HealthOptions): void {
  const issues = Object.entries(options).flatMap(([option, value]: [string, unknown]) => {
    if (option === 'name') return [];
    if (!DURATIONS.has(option))
      return [{ message: `unknown option '${option}' (known: name, ${[...DURATIONS].join(', ')})`, path: [option] }];
    const isDuration = value === undefined || tryParseDuration(value) !== undefined;
    return isDuration ? [] : [{ message: `${option} ${JSON.stringify(value)} is no duration`, path: [option] }];
  });
  if (issues.length) throw new ValidationError('The options of isHealthy', issues);
}

/** The engine itself waits longer for a database that is away. */
async function within<T>(timeoutMs: number, work: Promise<T>): Promise<T> {
  if (await endsWithin(timeoutMs, work)) return work;
  throw new Error(`the database has not answered in ${timeoutMs} ms`);
}
