// Builds the library and the sample app when a source is younger than what was built of it: `npm start` and
// `npm run demo` work right after `npm ci`, and start at once from then on.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

const LIBRARY = 'dist/index.js';
const APP = 'sample-app/dist/main.js';

build('the library', LIBRARY, ['lib', 'tsconfig.json', 'tsconfig.build.json'], ['scripts/build.mjs']);
build(
  'the sample app',
  APP,
  ['sample-app/src', 'sample-app/tsconfig.json', LIBRARY],
  ['node_modules/typescript/bin/tsc', '-p', 'sample-app/tsconfig.json'],
);

function build(what, result, sources, command) {
  if (existsSync(result) && Math.max(...sources.map(changedAt)) <= changedAt(result)) return;
  console.log(`Building ${what} …`);
  const { status } = spawnSync(process.execPath, command, { stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}

/** When a file, or the youngest in a folder, was written. */
function changedAt(path) {
  const files = statSync(path).isDirectory()
    ? readdirSync(path, { recursive: true }).map((name) => join(path, name))
    : [path];
  return Math.max(...files.map((file) => statSync(file).mtimeMs));
}
