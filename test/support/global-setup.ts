import { chmodSync, mkdirSync, mkdtempSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import { transformFileSync, type Options } from '@swc/core';

import type { TestServer } from './test-server.js';

interface ProjectConfig {
  rootDir: string;
  transform: [pattern: string, transformer: string, options: Options][];
}

export interface TestRun {
  server: TestServer;
  folder: string;
}

declare global {
  var orchestrationTestRun: TestRun | undefined;
}

/**
 * Runs once before all test files: compiles the sources for the processes that tests start, and finds or starts the
 * database server. Workers and their child processes learn of both through the environment.
 */
export default async function setup(_global: unknown, project: ProjectConfig): Promise<void> {
  // The process id in the name tells a later run whether this one is over.
  const folder = mkdtempSync(join(tmpdir(), `orchestration-tests-${process.pid}-`));
  // The tests may run as root, but an embedded server never does and must get in as well.
  chmodSync(folder, 0o755);
  const buildFolder = join(folder, 'build');
  compileSources(project, buildFolder);
  // Jest loads this very file as CommonJS and finds no `./x.js` that is an `x.ts`: hence the detour over the compiled
  // sources, which are ordinary ECMAScript modules.
  const testServer = (await import(
    join(buildFolder, 'test/support/test-server.js')
  )) as typeof import('./test-server.js');
  const server = await testServer.startTestServer(folder);
  process.env.ORCHESTRATION_TEST_SERVER = server.url;
  if (server.poolerUrl) process.env.ORCHESTRATION_TEST_POOLER = server.poolerUrl;
  process.env.ORCHESTRATION_TEST_BUILD = buildFolder;
  globalThis.orchestrationTestRun = { server, folder };
}

/** Always current, unlike `dist`, and it has what is internal. */
function compileSources({ rootDir, transform }: ProjectConfig, buildFolder: string): void {
  mkdirSync(buildFolder);
  writeFileSync(join(buildFolder, 'package.json'), '{ "type": "module" }');
  symlinkSync(join(rootDir, 'node_modules'), join(buildFolder, 'node_modules'), 'junction');
  const options = transform.find(([, transformer]) => transformer.includes('swc'))?.[2];
  for (const folder of ['lib', join('test', 'support')]) {
    for (const file of listSources(rootDir, folder)) {
      const target = join(buildFolder, file.replace(/\.ts$/, '.js'));
      mkdirSync(dirname(target), { recursive: true });
      writeFileSync(target, transformFileSync(join(rootDir, file), { ...options, swcrc: false }).code);
    }
  }
}

function listSources(rootDir: string, folder: string): string[] {
  const names = readdirSync(join(rootDir, folder), { recursive: true, encoding: 'utf8' });
  const files = names.map((name) => join(folder, name));
  // The schematics have templates, which are no TypeScript yet.
  return files.filter((file) => /(?<!\.d|\.spec)\.ts$/.test(file) && !/schematics.*files/.test(file));
}
