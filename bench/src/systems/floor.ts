import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import pg from 'pg';
import type { System } from '../system.js';
import { GroupCommit } from './group-commit.js';
import { floorStatements } from './floor.sql.js';

export const settings =
  'pg alone: the same rows in the same tables, in no more commits, by multi-row statements; no engine, no fencing, no replay, no Nest, no TypeORM.';

/** The least that can be done to leave the rows that the engine leaves. It may lose races and crashes; what it costs is the floor. */
export async function open(url: string): Promise<System> {
  migrate(url);
  // Its statements are planned while the tables are empty: a plan that reads them from end to end would stay until they are analysed.
  const pool = new pg.Pool({ connectionString: url, max: 4, options: '-c enable_seqscan=off' });
  const runs = new GroupCommit<[id: string, workflow: string, input: string]>(pool, floorStatements.start);
  const outcomes = new GroupCommit<[run: string, seq: number, output: string]>(pool, floorStatements.record);
  const pairs = new GroupCommit<[parent: string, child: string, input: string]>(pool, floorStatements.startPair);
  const ends = new GroupCommit<[run: string, seq: number, output: string]>(pool, floorStatements.end);
  const endsOfBoth = new GroupCommit<[child: string, parent: string, output: string]>(pool, floorStatements.endBoth);

  async function start(workflow: string, value: number): Promise<string> {
    const id = timeOrderedId();
    await runs.add(id, workflow, String(value));
    return id;
  }

  return {
    async oneStep(value) {
      const id = await start('one-step', value);
      await ends.add(id, 1, String(value + 1));
    },
    async tenSteps(value) {
      const id = await start('ten-steps', value);
      for (let step = 1; step < 10; step++) await outcomes.add(id, step, String(value + step));
      await ends.add(id, 10, String(value + 10));
    },
    async parentChild(value) {
      const [parent, child] = [timeOrderedId(), timeOrderedId()];
      await pairs.add(parent, child, String(value));
      await endsOfBoth.add(child, parent, String(value + 1));
    },
    close: () => pool.end(),
  };
}

/** A uuid v7, as the engine's ids are: new rows go to the end of the index. */
function timeOrderedId(): string {
  const time = Date.now().toString(16).padStart(12, '0');
  return `${time.slice(0, 8)}-${time.slice(8)}-7${randomUUID().slice(15)}`;
}

/** The tables are the engine's own, so that they have its columns and indexes. */
function migrate(url: string): void {
  const command = new URL('../../../dist/cli/main.js', import.meta.url);
  execFileSync(process.execPath, [command.pathname, 'migrate'], { env: { ...process.env, DATABASE_URL: url } });
}
