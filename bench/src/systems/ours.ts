import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { OrchestrationModule, Orchestrator } from 'nestjs-orchestration';
import pg from 'pg';
import { doomed } from '../doomed.js';
import { IN_FLIGHT, type Role, type System } from '../system.js';
import { finishedRuns } from './finished-runs.js';
import {
  DoomedWorkflow,
  FanOutWorkflow,
  GO,
  OneStepWorkflow,
  ParentWorkflow,
  ParkedWorkflow,
  PayloadWorkflow,
  TenStepsWorkflow,
  WORKFLOWS,
} from './workflows.js';

const AT_A_TIME = 1_000;

export const settings = `worker.concurrency ${IN_FLIGHT}; all else by default. Runs start in the process that executes them.`;

export async function open(url: string, role: Role): Promise<System> {
  doomed.hangs = role.hangs;
  const app = await startApp(url, role);
  const orchestrator = app.get(Orchestrator);
  const pool = new pg.Pool({ connectionString: url, max: 1 });
  const idsOf = async (starting: ReturnType<typeof orchestrator.startMany>) => (await starting).map(({ id }) => id);
  return {
    oneStep: (value) => orchestrator.execute(OneStepWorkflow, value),
    tenSteps: (value) => orchestrator.execute(TenStepsWorkflow, value),
    parentChild: (value) => orchestrator.execute(ParentWorkflow, value),
    fanOut: (children) => orchestrator.execute(FanOutWorkflow, children),
    payload: (bytes) => orchestrator.execute(PayloadWorkflow, bytes),
    async manyOneSteps(count) {
      const handles = await orchestrator.startMany(
        OneStepWorkflow,
        Array.from({ length: count }, (_, input) => ({ input })),
      );
      await Promise.all(handles.map((handle) => handle.result()));
    },
    async park(count) {
      const ids: string[] = [];
      while (ids.length < count) {
        const starts = Array.from({ length: Math.min(AT_A_TIME, count - ids.length) }, () => ({ input: 0 }));
        ids.push(...(await idsOf(orchestrator.startMany(ParkedWorkflow, starts))));
      }
      return ids;
    },
    async parked() {
      const { rows } = await pool.query<{ waiting: number; ended: number }>(
        `select count(*) filter (where status = 'waiting')::int as waiting, count(*) filter (where status = 'completed')::int as ended
         from orchestration.run where workflow = 'parked'`,
      );
      return rows[0]!;
    },
    signal: (id) => orchestrator.signal(id, GO, null),
    ended: (id) => orchestrator.result(id),
    longRun: async (steps) => (await orchestrator.start(ParkedWorkflow, steps)).id,
    doomed: (count) =>
      idsOf(
        orchestrator.startMany(
          DoomedWorkflow,
          Array.from({ length: count }, () => ({ input: undefined })),
        ),
      ),
    finished: finishedRuns(orchestrator, pool),
    async close() {
      await pool.end();
      await app.close();
    },
  };
}

function startApp(url: string, role: Role) {
  @Module({
    imports: [
      OrchestrationModule.forRoot({
        connection: { type: 'postgres', url },
        migrate: true,
        worker: role.worker ? { concurrency: IN_FLIGHT } : false,
      }),
    ],
    providers: WORKFLOWS,
  })
  class BenchModule {}
  return NestFactory.createApplicationContext(BenchModule, { logger: ['warn', 'error'] });
}
