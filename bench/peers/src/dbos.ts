import { DBOS, DBOSClient } from '@dbos-inc/dbos-sdk';
import { randomText } from '../../src/random-text.js';
import type { Role, System } from '../../src/system.js';

const POOL_SIZE = 20;

export const settings = `systemDatabasePoolSize ${POOL_SIZE}, LISTEN/NOTIFY (default), log level error; workflows are called in the process that executes them, which needs no queue.`;

export const lacks = {
  manyOneSteps: 'no operation that starts many',
  doomed: 'no takeover by another process: one with the same executor id has to start (or its commercial Conductor)',
  longRun: 'a workflow that waits stays in memory; it is replayed when its process starts, not when it is signalled',
};

const oneStep = DBOS.registerWorkflow((value: number) => DBOS.runStep(async () => value + 1, { name: 'work' }), {
  name: 'one-step',
});

const tenSteps = DBOS.registerWorkflow(
  async (value: number) => {
    let result = value;
    for (let count = 0; count < 10; count++) result = await DBOS.runStep(async () => result + 1, { name: 'work' });
    return result;
  },
  { name: 'ten-steps' },
);

const parentChild = DBOS.registerWorkflow((value: number) => oneStep(value), { name: 'parent' });

const fanOut = DBOS.registerWorkflow(
  async (count: number) => {
    const children = Array.from({ length: count }, (_, child) => child);
    const handles = await Promise.all(children.map((child) => DBOS.startWorkflow(oneStep)(child)));
    return (await Promise.all(handles.map((handle) => handle.getResult()))).length;
  },
  { name: 'fan-out' },
);

const payload = DBOS.registerWorkflow(
  (bytes: number) => DBOS.runStep(async () => randomText(bytes), { name: 'produce' }),
  { name: 'payload' },
);

const counts = { waiting: 0, ended: 0 };

const parked = DBOS.registerWorkflow(
  async () => {
    counts.waiting++;
    await DBOS.recv('go', { timeoutSeconds: 3_600 });
    counts.waiting--;
    counts.ended++;
  },
  { name: 'parked' },
);

export async function open(url: string, role: Role): Promise<System> {
  return role.worker ? openWorker(url) : openClient(url);
}

async function openWorker(url: string): Promise<System> {
  DBOS.setConfig({ name: 'bench', systemDatabaseUrl: url, systemDatabasePoolSize: POOL_SIZE, logLevel: 'error' });
  await DBOS.launch();
  const handles = new Map<string, { getResult(): Promise<unknown> }>();
  return {
    oneStep: (value) => oneStep(value),
    tenSteps: (value) => tenSteps(value),
    parentChild: (value) => parentChild(value),
    fanOut: (children) => fanOut(children),
    payload: (bytes) => payload(bytes),
    async park(count) {
      const ids: string[] = [];
      for (let run = 0; run < count; run++) {
        const handle = await DBOS.startWorkflow(parked)();
        handles.set(handle.workflowID, handle);
        ids.push(handle.workflowID);
      }
      return ids;
    },
    parked: async () => ({ ...counts }),
    signal: (id) => DBOS.send(id, null, 'go'),
    ended: (id) => handles.get(id)!.getResult(),
    close: () => DBOS.shutdown(),
  };
}

async function openClient(url: string): Promise<System> {
  const client = await DBOSClient.create({ systemDatabaseUrl: url });
  return { signal: (id) => client.send(id, null, 'go'), close: () => client.destroy() };
}
