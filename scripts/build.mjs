// Builds dist/: the compiled library, and what tsc does not make: the dashboard's page, the schematics' JSON and templates.
// The build grows in a folder of its own and takes dist's place at the end, so that processes that use dist (tests in
// another terminal) never meet half a build, and a build that fails leaves the old one alone.
import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, renameSync, rmSync, statSync } from 'node:fs';
import { sep } from 'node:path';

import { build } from 'esbuild';

const next = `dist.${process.pid}`;

compile();
await bundlePage();
copySchematicsFiles();
chmodSync(`${next}/cli/main.js`, 0o755);
swapIn();

function compile() {
  const tsc = spawnSync(
    process.execPath,
    ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.build.json', '--outDir', next],
    {
      stdio: 'inherit',
    },
  );
  if (tsc.status === 0) return;
  rmSync(next, { recursive: true, force: true });
  process.exit(tsc.status ?? 1);
}

/** Beside its sources as well: that is where tests, which run the sources, find it. */
async function bundlePage() {
  const page = 'lib/dashboard/page';
  await build({
    entryPoints: [`${page}/page.tsx`, `${page}/page.css`],
    outdir: `${page}/built`,
    bundle: true,
    minify: true,
    format: 'esm',
    target: ['es2022'],
    legalComments: 'inline',
    tsconfig: `${page}/tsconfig.json`,
  });
  cpSync(`${page}/index.html`, `${page}/built/index.html`);
  cpSync(`${page}/built`, `${next}/dashboard/page/built`, { recursive: true });
}

function copySchematicsFiles() {
  if (!existsSync('lib/schematics')) return;
  cpSync('lib/schematics', `${next}/schematics`, {
    recursive: true,
    filter: (source) => statSync(source).isDirectory() || source.endsWith('.json') || isTemplate(source),
  });
}

function isTemplate(source) {
  const [, , , folder] = source.split(sep);
  return folder === 'files';
}

function swapIn() {
  const old = `${next}.old`;
  if (existsSync('dist')) renameSync('dist', old);
  renameSync(next, 'dist');
  rmSync(old, { recursive: true, force: true });
}
