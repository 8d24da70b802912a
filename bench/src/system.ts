/**
 * What a system does for the benchmark: the one interface that all are measured through. An operation that a system does not
 * have is left out, and the report says so; none is imitated.
 */
export interface System {
  /** Executes a run of one step, from its start to the result. */
  oneStep?(value: number): Promise<unknown>;
  /** The same with ten steps, one after the other. */
  tenSteps?(value: number): Promise<unknown>;
  /** A parent that waits for a child of one step. */
  parentChild?(value: number): Promise<unknown>;
  /** A parent that waits for so many children of one step, all started at once. */
  fanOut?(children: number): Promise<unknown>;
  /** So many runs of one step, started by the operation for many, until the last has ended. */
  manyOneSteps?(count: number): Promise<unknown>;
  /** A run of one step whose result is a text of so many bytes, and is also the result of the run. */
  payload?(bytes: number): Promise<unknown>;
  /** Starts so many runs that wait for a signal. Resolves with their ids when they are durable. */
  park?(count: number): Promise<string[]>;
  /** How many of those wait now, and how many have ended. */
  parked?(): Promise<{ waiting: number; ended: number }>;
  /** Sends one of those its signal; resolves when it is durable. */
  signal?(id: string): Promise<unknown>;
  /** Resolves when that run has ended. */
  ended?(id: string): Promise<unknown>;
  /** Starts a run that makes so many steps, and then waits for a signal as a parked one does. Resolves with its id. */
  longRun?(steps: number): Promise<string>;
  /** Starts so many runs of one step that never ends in a process that `hangs`, and at once in any other. */
  doomed?(count: number): Promise<string[]>;
  /** What only the system under test has. */
  finished?: FinishedRuns;
  /** What only the database itself does. */
  raw?: RawDatabase;
  close(): Promise<void>;
}

export interface FinishedRuns {
  /** Loads finished runs into its tables: those from the first to the last number, of so many in all. */
  load(first: number, last: number, count: number): Promise<void>;
  /** What a database does sooner or later after such a load. */
  settle(): Promise<void>;
  /** Starts a run, without waiting for it. */
  start(): Promise<unknown>;
  /** Milliseconds for the first page of every list. */
  firstPages(): Promise<Record<string, number>>;
}

export interface RawDatabase {
  /** One commit of one row. */
  commit(): Promise<unknown>;
  /** Two commits of one row, one after the other. */
  twoCommits(): Promise<unknown>;
  /** A statement without a write. */
  select(): Promise<unknown>;
  /** Writes and syncs 8 KiB in the folder for temporary files. */
  fsync(): Promise<unknown>;
}

/** What a process of a system is for. */
export interface Role {
  /** Whether it executes runs; if not, it only starts and signals them. */
  worker: boolean;
  /** Whether steps of doomed runs never end in it. */
  hangs: boolean;
}

/** What the module of a system exports. */
export interface SystemModule {
  /** How it is configured and used, for the report. */
  settings: string;
  /** Why it has no such operation. */
  lacks?: Record<string, string>;
  open(url: string, role: Role): Promise<System>;
}

/** Runs in flight in the scenarios of throughput; also the concurrency that systems are configured for. */
export const IN_FLIGHT = 200;
/** Clients that commit single rows beside each other, where the database itself is measured. */
export const RAW_CLIENTS = 8;
