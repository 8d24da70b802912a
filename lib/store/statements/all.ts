import { cancelStatements } from './cancel.sql.js';
import { claimStatements } from './claim.sql.js';
import { commitStatements } from './commit.sql.js';
import { continueStatements } from './continue.sql.js';
import { deleteStatements } from './delete.sql.js';
import { signalStatements } from './signal.sql.js';
import { inputStatements } from './input.sql.js';
import { queueStatements } from './queue.sql.js';
import { retentionStatements } from './retention.sql.js';
import { scheduleStatements } from './schedule.sql.js';
import { statisticsStatements } from './statistics.sql.js';
import { startStatements } from './start.sql.js';
import { heartbeatStatements } from './heartbeat.sql.js';
import { forkStatements } from './fork.sql.js';
import { pauseStatements } from './pause.sql.js';
import { inSchema } from './statement.js';
import { transactionStatements } from './transaction.sql.js';
import { wakeStatements } from './wake.sql.js';
import { workerStatements } from './worker.sql.js';

/** Every statement of the engine, for one schema. */
export function allStatements(schema: string) {
  return inSchema(
    {
      ...startStatements,
      ...queueStatements,
      ...claimStatements,
      ...commitStatements,
      ...transactionStatements,
      ...heartbeatStatements,
      ...wakeStatements,
      ...signalStatements,
      ...cancelStatements,
      ...pauseStatements,
      ...continueStatements,
      ...deleteStatements,
      ...forkStatements,
      ...workerStatements,
      ...inputStatements,
      ...scheduleStatements,
      ...retentionStatements,
      ...statisticsStatements,
    },
    schema,
  );
}

export type Statements = ReturnType<typeof allStatements>;
