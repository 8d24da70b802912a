import { spawn } from 'node:child_process';

import type { OperatingSystemUser } from './operating-system-user.js';

export interface RunProgramOptions {
  user?: OperatingSystemUser | undefined;
  cwd?: string;
}

export interface ProgramResult {
  succeeded: boolean;
  /** What the program printed, on both channels; the reason if it could not be started. */
  output: string;
  /** The reason why it could not be started at all, such as ENOENT or EACCES. */
  spawnErrorCode?: string | undefined;
}

/**
 * Runs a program to its end; a failure is a result, not an exception. The program gets a process group of its own, so
 * that Ctrl-C in the terminal does not interrupt a half-done `initdb` or `pg_ctl start`.
 */
export function runProgram(
  program: string,
  programArguments: string[],
  options: RunProgramOptions = {},
): Promise<ProgramResult> {
  return new Promise((resolve) => {
    const child = spawn(program, programArguments, {
      ...options.user,
      cwd: options.cwd,
      env: programEnvironment(),
      detached: process.platform !== 'win32',
      windowsHide: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const chunks: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => chunks.push(chunk));
    child.on('error', (error: NodeJS.ErrnoException) =>
      resolve({ succeeded: false, output: error.message, spawnErrorCode: error.code }),
    );
    // On Windows the server inherits the channels of pg_ctl, so that 'close' would not come before the server ends.
    child.on(process.platform === 'win32' ? 'exit' : 'close', (code) =>
      resolve({ succeeded: code === 0, output: Buffer.concat(chunks).toString().trim() }),
    );
  });
}

/** Without PGPORT, PGDATA and the like, which are meant for another server; in English, because messages are read. */
function programEnvironment(): NodeJS.ProcessEnv {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('PG') && !name.startsWith('LC_'));
  return { ...Object.fromEntries(inherited), LC_ALL: 'C' };
}
