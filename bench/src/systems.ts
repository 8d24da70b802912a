import { existsSync, readFileSync } from 'node:fs';

/** A system that is measured, and where it is. */
export interface Candidate {
  name: string;
  kind: 'ours' | 'floor' | 'durable' | 'queue' | 'database';
  /** The module that opens it. */
  module: string;
  /** The package's version. */
  version: string;
}

const BENCH = new URL('../', import.meta.url);
const PEERS = new URL('peers/', BENCH);

const PG = new URL(import.meta.resolve('pg/package.json'));

export const OURS: Candidate[] = [
  own('nestjs-orchestration', 'ours', 'ours', new URL('../package.json', BENCH)),
  own('floor', 'floor', 'floor', PG),
  own('database', 'database', 'database', PG),
];

function own(name: string, kind: Candidate['kind'], file: string, pack: URL): Candidate {
  return { name, kind, module: new URL(`dist/systems/${file}.js`, BENCH).href, version: versionIn(pack) };
}

/** The peers that are installed. */
export function peers(): Candidate[] {
  return [
    peer('@dbos-inc/dbos-sdk', 'durable', 'dbos'),
    peer('openworkflow', 'durable', 'openworkflow'),
    peer('absurd-sdk', 'durable', 'absurd'),
    peer('pg-boss', 'queue', 'pg-boss'),
    peer('graphile-worker', 'queue', 'graphile-worker'),
  ];
}

function peer(name: string, kind: Candidate['kind'], file: string): Candidate {
  const pack = new URL(`node_modules/${name}/package.json`, PEERS);
  return { name, kind, module: new URL(`dist/peers/src/${file}.js`, PEERS).href, version: versionIn(pack) };
}

function versionIn(pack: URL): string {
  if (!existsSync(pack)) return 'not installed';
  return (JSON.parse(readFileSync(pack, 'utf8')) as { version: string }).version;
}
