import { HostProcess } from './host-process.js';
import type { Scenario, Visit } from './scenario.js';
import type { Server } from './server.js';
import type { Sizes } from './sizes.js';
import type { Candidate } from './systems.js';
import type { Role } from './system.js';

/** What a visit reports to. */
export interface Findings {
  introduce(settings: string): void;
  record(metric: string, value: number): void;
  missing(scenario: Scenario, reason: string): void;
  failed(scenario: Scenario, reason: string): void;
}

interface Place {
  candidate: Candidate;
  server: Server;
  sizes: Sizes;
  findings: Findings;
}

/** Measures some scenarios of one system, in one fresh database. One that fails does not keep the others from being measured. */
export async function visit(scenarios: readonly Scenario[], place: Place): Promise<void> {
  const url = await place.server.create(place.candidate.name);
  const session = new Session(url, place);
  try {
    for (const scenario of scenarios) await session.perform(scenario);
  } finally {
    await session.end();
    await place.server.drop(url);
  }
}

class Session implements Visit {
  private shared: HostProcess | undefined;
  private others: HostProcess[] = [];
  readonly sizes: Sizes;
  readonly server: Server;

  constructor(
    readonly url: string,
    private readonly place: Place,
  ) {
    this.sizes = place.sizes;
    this.server = place.server;
  }

  async perform(scenario: Scenario): Promise<void> {
    const { findings } = this.place;
    try {
      const { operations, lacks } = await this.host();
      const lacking = scenario.needs.find((operation) => !operations.includes(operation));
      if (lacking) return findings.missing(scenario, lacks[lacking] ?? `no ${lacking}`);
      await this.server.settle(this.url);
      await scenario.measure(this);
    } catch (error) {
      findings.failed(scenario, error instanceof Error ? error.message : String(error));
      await this.shared?.kill();
      this.shared = undefined;
    } finally {
      for (const host of this.others.splice(0)) await host.kill();
    }
  }

  async host(): Promise<HostProcess> {
    this.shared ??= await this.start({ worker: true, hangs: false });
    return this.shared;
  }

  async another(role: Partial<Role> = {}): Promise<HostProcess> {
    const host = await this.start({ worker: true, hangs: false, ...role });
    this.others.push(host);
    return host;
  }

  async closeHost(): Promise<void> {
    await this.shared?.close();
    this.shared = undefined;
  }

  record(metric: string, value: number): void {
    this.place.findings.record(metric, value);
  }

  async end(): Promise<void> {
    await this.closeHost().catch(() => undefined);
  }

  private async start(role: Role): Promise<HostProcess> {
    const host = await HostProcess.start(this.place.candidate.module, this.url, role);
    this.place.findings.introduce(host.settings);
    return host;
  }
}
