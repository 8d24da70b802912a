import { Subject } from 'rxjs';
import { DatabaseClock } from '../engine/clock.js';
import { Engine } from '../engine/engine.js';
import type { RunEvent } from '../engine/events.js';
import { Orchestrator } from '../engine/orchestrator.js';
import { WorkflowRegistry } from '../engine/registry.js';
import { PayloadSerializer } from '../engine/serialization.js';
import { Database } from '../store/database.js';
import { migrate } from '../store/migrate.js';
import { TypeOrmStore } from '../store/typeorm-store.js';

const LARGEST_PAYLOAD_BYTES = 2 * 1024 * 1024;

/** An engine without a worker and without workflows: it starts, watches and changes runs that others execute. */
export interface Client {
  orchestrator: Orchestrator;
  engine: Engine;
  database: Database;
  /** Hears at once when a run ends or an answer is judged; without it that is found by looking. */
  listen(): Promise<void>;
  close(): Promise<void>;
}

/** Throws SchemaBehindError: commands never change the tables, except `migrate`. */
export async function openClient(database: Database): Promise<Client> {
  await migrate(database, false);
  // A statement is sent once or twice here: to prepare it gains nothing, and behind a pooler it would be lost.
  database.isPooled = true;
  const clock = new DatabaseClock();
  const serializer = new PayloadSerializer(LARGEST_PAYLOAD_BYTES);
  const store = new TypeOrmStore(database, serializer, clock);
  const events = new Subject<RunEvent>();
  const engine = new Engine({
    ...{ store, clock, serializer, events, registry: new WorkflowRegistry() },
    ...{ callerContext: undefined, worker: undefined, transactions: undefined, telemetry: undefined },
    warn: (message) => process.emitWarning(message),
  });
  return {
    orchestrator: new Orchestrator(() => Promise.resolve(engine), events),
    engine,
    database,
    listen: () => store.hints.listen(undefined, () => {}),
    close: async () => {
      await engine.tellOthers();
      await store.close();
    },
  };
}
