import { parseArgs } from 'node:util';
import { embeddedPostgres } from 'nestjs-orchestration';
import { chosen } from './plan.js';
import { writeReport, writeResults } from './report/write.js';
import type { Results } from './results.js';
import { run } from './run.js';
import { Server } from './server.js';
import { FULL, QUICK } from './sizes.js';
import { OURS, peers } from './systems.js';

/*
 * `npm run bench` measures ours, the floor and the database, `npm run bench:peers` the peers as well. DATABASE_URL says in which
 * PostgreSQL; without it, it is the embedded one.
 */
const { values: options } = parseArgs({
  options: {
    peers: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    only: { type: 'string' },
    systems: { type: 'string' },
    rounds: { type: 'string' },
    minutes: { type: 'string' },
    out: { type: 'string', default: 'bench/results' },
  },
});

const PLOT = new URL('../peers/dist/peers/src/plot.js', import.meta.url);

async function main(): Promise<void> {
  const server = await Server.connect(process.env['DATABASE_URL'] ?? (await embeddedUrl()));
  try {
    const results = await run({
      server,
      candidates: candidates(),
      groups: chosen(options.only?.split(',')),
      sizes: sizes(),
      keep: (found) => writeResults(found, options.out),
    });
    writeReport(results, options.out, options.peers ? await plotOf(results) : undefined);
  } finally {
    await server.close();
  }
}

/** The plot is drawn by a package that is installed with the peers. */
async function plotOf(results: Results): Promise<string> {
  const { draw } = (await import(PLOT.href)) as { draw(results: Results): string };
  return draw(results);
}

function candidates() {
  const wanted = options.systems?.split(',');
  const all = options.peers ? [...OURS, ...peers()] : OURS;
  return all.filter(({ name }) => !wanted || wanted.includes(name));
}

function sizes() {
  const base = options.quick ? QUICK : FULL;
  return {
    ...base,
    rounds: options.rounds ? Number(options.rounds) : base.rounds,
    soakMs: options.minutes ? Number(options.minutes) * 60_000 : base.soakMs,
  };
}

async function embeddedUrl(): Promise<string> {
  const { host, port, username, password } = await embeddedPostgres({ dir: '.orchestration' });
  return `postgres://${username}:${encodeURIComponent(password)}@${host}:${port}/postgres`;
}

await main();
