import type { TestApp } from './app.js';
import { until } from './until.js';

/** Resolves when the run has that status. */
export async function untilStatus({ orchestrator }: TestApp, runId: string, status: string): Promise<void> {
  await until(`it is ${status}`, async () => (await orchestrator.get(runId)).status === status);
}
