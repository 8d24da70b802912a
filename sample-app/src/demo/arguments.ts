import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { UsageError } from '../exit-with-reason.js';

const ORDERS_OF_THE_SAMPLE = fileURLToPath(new URL('../../data/orders.json', import.meta.url));

export const USAGE = `Usage: npm run demo [-- --file <orders.json>]

Runs the orders of a JSON file through the shop while its worker process is killed, and checks the books afterwards.
It uses the PostgreSQL that DATABASE_URL names, in schemas of its own, or else an embedded one.`;

export interface DemoArguments {
  file: string;
  help: boolean;
}

/** @throws UsageError when there is an argument that the demo does not know */
export function readArguments(args: string[]): DemoArguments {
  const { file, help } = parse(args);
  // npm runs scripts in the package's folder; the path was meant from where the user stands.
  const here = process.env.INIT_CWD ?? process.cwd();
  return { file: file === undefined ? ORDERS_OF_THE_SAMPLE : resolve(here, file), help };
}

function parse(args: string[]): { file?: string | undefined; help: boolean } {
  try {
    const options = { file: { type: 'string' }, help: { type: 'boolean', default: false } } as const;
    return parseArgs({ args, options }).values;
  } catch (error) {
    throw new UsageError(`${(error as Error).message}\n\n${USAGE}`, { cause: error });
  }
}
