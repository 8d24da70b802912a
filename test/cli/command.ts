import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const { bin } = JSON.parse(readFileSync(`${root}/package.json`, 'utf8')) as { bin: { orchestration: string } };

/** The program as it is built, which `npx orchestration` starts. */
export const BIN = `${root}/${bin.orchestration}`;

export interface Finished {
  stdout: string;
  stderr: string;
  exitCode: number | null;
  /** What it printed with --json. */
  json(): unknown;
}

interface Circumstances {
  args: readonly string[];
  env?: Record<string, string | undefined>;
  /** What it reads; without it there is nothing to read, and no terminal. */
  stdin?: string;
  cwd?: string;
}

/** Starts the command in a process of its own, without a terminal, and waits for its end. */
export async function command({ args, env = {}, stdin, cwd = root }: Circumstances): Promise<Finished> {
  const child = spawn(process.execPath, [BIN, ...args], {
    cwd,
    env: { ...process.env, DATABASE_URL: undefined, NODE_OPTIONS: undefined, ...env },
    stdio: [stdin === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
  });
  child.stdin?.end(stdin);
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  const [stdout, stderr] = await Promise.all([text(child.stdout!), text(child.stderr!)]);
  return { stdout, stderr, exitCode: await ended, json: () => JSON.parse(stdout) as unknown };
}
