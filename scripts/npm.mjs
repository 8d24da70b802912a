import { spawnSync } from 'node:child_process';

/** Runs npm with these arguments and this terminal; returns its exit code. */
export function npm(args, env = {}) {
  const self = process.env.npm_execpath;
  const [command, leading] = self ? [process.execPath, [self]] : ['npm', []];
  const { status } = spawnSync(command, [...leading, ...args], { stdio: 'inherit', env: { ...process.env, ...env } });
  return status ?? 1;
}
