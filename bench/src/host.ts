/*
 * A process of one system: `node host.js <module> <url> <role>`. It opens the system and does what the benchmark asks for, so that no
 * system shares its heap, its event loop or its pool with another, or with the measuring.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { batch, latencies, steady } from './load.js';
import type { Answer, Introduction, Operation, Request } from './protocol.js';
import type { Role, System, SystemModule } from './system.js';

const [module, url, role] = process.argv.slice(2) as [string, string, string];

async function main(): Promise<void> {
  const { open, settings, lacks = {} } = (await import(module)) as SystemModule;
  const system = await open(url, JSON.parse(role) as Role);
  process.on('message', (message) => void answer(system, message as Request));
  process.on('disconnect', () => process.exit());
  const introduction: Introduction = { operations: operationsOf(system), settings, lacks };
  send({ id: 0, value: introduction });
}

async function answer(system: System, request: Request): Promise<void> {
  try {
    send({ id: request.id, ...(await perform(system, request)) });
  } catch (error) {
    send({ id: request.id, error: error instanceof Error ? error.message : String(error) });
  }
}

/** The times are of the clock that all processes of the machine share. */
async function perform(system: System, request: Request): Promise<Omit<Answer, 'id'>> {
  const startedAt = now();
  const value = await execute(system, request);
  return { value, startedAt, endedAt: now() };
}

async function execute(system: System, request: Request): Promise<unknown> {
  switch (request.kind) {
    case 'call':
      return bind(system, request.operation)(...request.args);
    case 'steady':
      return steady(workOf(system, request), request);
    case 'latencies':
      return latencies(workOf(system, request), request);
    case 'batch':
      return batch(workOf(system, request), request);
    case 'memory':
      return memoryMiB();
    case 'close':
      return system.close();
  }
}

/** Calls the operation with the arguments of the request, or else with the number of the item. */
function workOf(system: System, { operation, args }: { operation: Operation; args?: unknown[] }) {
  const work = bind(system, operation);
  return args ? () => work(...args) : (item: number) => work(item);
}

function bind(system: System, operation: Operation): (...args: unknown[]) => Promise<unknown> {
  const [owner, method] = operation.includes('.') ? operation.split('.') : ['', operation];
  const target = (owner ? system[owner as keyof System] : system) as unknown as Record<
    string,
    (...args: unknown[]) => Promise<unknown>
  >;
  return target[method!]!.bind(target);
}

function operationsOf(system: System): string[] {
  return Object.keys(system).filter((name) => system[name as keyof System] !== undefined);
}

async function memoryMiB(): Promise<number> {
  globalThis.gc!();
  await delay(200);
  globalThis.gc!();
  const { heapUsed, external } = process.memoryUsage();
  return (heapUsed + external) / 2 ** 20;
}

function now(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

function send(message: Answer): void {
  process.send!(message);
}

await main();
