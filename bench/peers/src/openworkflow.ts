import { randomUUID } from 'node:crypto';
import { OpenWorkflow, type Workflow } from 'openworkflow';
import { BackendPostgres } from 'openworkflow/postgres';
import pg from 'pg';
import { doomed } from '../../src/doomed.js';
import { randomText } from '../../src/random-text.js';
import { IN_FLIGHT, type Role, type System } from '../../src/system.js';
import { EndWatch } from './end-watch.js';

export const settings = `worker concurrency ${IN_FLIGHT}, its fixed polling with back-off from 100 ms to 1 s; ends are noticed by one query for all runs every 10 ms, since a handle looks once a second.`;

export const lacks = { manyOneSteps: 'no operation that starts many' };

const MOST_STEPS = 1_000;

const ENDED = `
select id, status in ('completed', 'succeeded') as completed
from openworkflow.workflow_runs
where namespace_id = 'default' and id = any($1) and finished_at is not null`;

const PARKED = `
select count(*) filter (where finished_at is null and worker_id is null and started_at is not null)::int as waiting,
  count(*) filter (where status = 'completed')::int as ended
from openworkflow.workflow_runs
where workflow_name = 'parked'`;

export async function open(url: string, role: Role): Promise<System> {
  doomed.hangs = role.hangs;
  const backend = await BackendPostgres.connect(url);
  const client = new OpenWorkflow({ backend });
  const workflows = define(client);
  const worker = client.newWorker({ concurrency: IN_FLIGHT });
  if (role.worker) await worker.start();
  const pool = new pg.Pool({ connectionString: url, max: 1 });
  const ends = new EndWatch(async (ids) => (await pool.query<{ id: string; completed: boolean }>(ENDED, [ids])).rows);
  const start = async (workflow: Runnable, input: unknown) => (await workflow.run(input as never)).workflowRun.id;
  const execute = async (workflow: Runnable, input: unknown) => ends.wait(await start(workflow, input));

  /** The id of a waiting run names the run and what it waits for. */
  const startParked = async (steps: number) => {
    const signal = randomUUID();
    return `${await start(workflows.parked, { steps, signal })} ${signal}`;
  };

  return {
    oneStep: (value) => execute(workflows.oneStep, value),
    tenSteps: (value) => execute(workflows.tenSteps, value),
    parentChild: (value) => execute(workflows.parent, value),
    fanOut: (children) => execute(workflows.fanOut, children),
    payload: (bytes) => execute(workflows.payload, bytes),
    park: (count) => times(count, () => startParked(0)),
    parked: async () => (await pool.query<{ waiting: number; ended: number }>(PARKED)).rows[0]!,
    signal: (id) => client.sendSignal({ signal: id.split(' ')[1]! }),
    ended: (id) => ends.wait(id.split(' ')[0]!),
    longRun(steps) {
      if (steps > MOST_STEPS) throw new Error(`A workflow has at most ${MOST_STEPS} steps.`);
      return startParked(steps);
    },
    doomed: (count) => times(count, () => start(workflows.doomed, null)),
    async close() {
      await worker.stop();
      await backend.stop();
      await pool.end();
    },
  };
}

interface Runnable {
  run(input: never): Promise<{ workflowRun: { id: string } }>;
}

function define(client: OpenWorkflow) {
  const oneStep = client.defineWorkflow({ name: 'one-step' }, ({ input, step }: Context<number>) =>
    step.run({ name: 'work' }, () => input + 1),
  );
  return {
    oneStep,
    tenSteps: client.defineWorkflow({ name: 'ten-steps' }, async ({ input, step }: Context<number>) => {
      let result = input;
      for (let count = 0; count < 10; count++) result = await step.run({ name: `work-${count}` }, () => result + 1);
      return result;
    }),
    parent: client.defineWorkflow({ name: 'parent' }, ({ input, step }: Context<number>) =>
      step.runWorkflow(oneStep.workflow.spec, input),
    ),
    fanOut: client.defineWorkflow({ name: 'fan-out' }, async ({ input, step }: Context<number>) => {
      const children = Array.from({ length: input }, (_, child) =>
        step.runWorkflow(oneStep.workflow.spec, child, { name: `child-${child}` }),
      );
      return (await Promise.all(children)).length;
    }),
    payload: client.defineWorkflow({ name: 'payload' }, ({ input, step }: Context<number>) =>
      step.run({ name: 'produce' }, () => randomText(input)),
    ),
    parked: client.defineWorkflow(
      { name: 'parked' },
      async ({ input, step }: Context<{ steps: number; signal: string }>) => {
        for (let count = 0; count < input.steps; count++) await step.run({ name: `work-${count}` }, () => count + 1);
        await step.waitForSignal({ signal: input.signal });
      },
    ),
    doomed: client.defineWorkflow({ name: 'doomed' }, ({ step }: Context<null>) =>
      step.run({ name: 'work' }, () => doomed.step()),
    ),
  };
}

type Context<Input> = Parameters<Workflow<Input, unknown, Input>['fn']>[0];

async function times(count: number, start: () => Promise<string>): Promise<string[]> {
  const ids: string[] = [];
  while (ids.length < count)
    ids.push(...(await Promise.all(Array.from({ length: Math.min(IN_FLIGHT, count - ids.length) }, start))));
  return ids;
}
