// Builds dist/: the compiled library, and the schematics' JSON and templates, which tsc does not copy.
// The build grows in a folder of its own and takes dist's place at the end, so that processes that use dist (tests in
// another terminal) never meet half a build, and a build that fails leaves the old one alone.
import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, renameSync, rmSync, statSync } from 'node:fs';
import { sep } from 'node:path';

const next = `dist.${process.pid}`;

compile();
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
