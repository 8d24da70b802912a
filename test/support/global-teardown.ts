import { rm } from 'node:fs/promises';

/** Runs once after all test files: stops what the set-up started and removes what it wrote. */
export default async function teardown(): Promise<void> {
  const run = globalThis.orchestrationTestRun;
  if (!run) return;
  await run.server.stop();
  await rm(run.folder, { recursive: true, force: true });
}
