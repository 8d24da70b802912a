import type { HostProcess } from './host-process.js';
import type { Server } from './server.js';
import type { Sizes } from './sizes.js';
import type { Candidate } from './systems.js';
import type { Role, System } from './system.js';

/** What is measured, under one letter. */
export interface Scenario {
  id: string;
  title: string;
  /** A system without one of these operations is not measured in it. */
  needs: (keyof System)[];
  /** Kinds of systems that it is for. Default: all but the database itself. */
  kinds?: Candidate['kind'][];
  measure(visit: Visit): Promise<void>;
}

/** A system in a fresh database of its own, for as long as it takes to measure one or more scenarios. */
export interface Visit {
  readonly sizes: Sizes;
  readonly server: Server;
  readonly url: string;
  /** The process that the scenarios of this visit share: a worker that also starts runs. */
  host(): Promise<HostProcess>;
  /** Another process of the system, which is ended after the scenario at the latest. */
  another(role?: Partial<Role>): Promise<HostProcess>;
  /** Ends the shared process; `host` gives a new one then. */
  closeHost(): Promise<void>;
  record(metric: string, value: number): void;
}
