import type { QueryConfig } from 'pg';
import type { Statement } from './statements/statement.js';

/**
 * Prepared statements whose plans keep up with the tables. PostgreSQL makes the plan of a prepared statement once and keeps
 * it until the table is analysed; made on the empty tables of a new installation, it scans them whole, and a minute of load
 * later that costs more than all else. So a statement gets a new name, and with it a new plan, each time it has been
 * executed four times as often; after some thousands the tables have been analysed, and that makes the plans anew.
 */
export class PlanCache {
  private readonly executions = new Map<string, number>();

  prepare(statement: Statement, values: readonly unknown[]): QueryConfig {
    const executions = (this.executions.get(statement.name) ?? 0) + 1;
    this.executions.set(statement.name, executions);
    return { name: `${statement.name}_${generationOf(executions)}`, text: statement.text, values: values as unknown[] };
  }
}

/** Each generation leaves its plan behind in the memory of each connection. */
const LAST_GENERATION = 6;

/** How often `executions` can be divided by four: 0 for 1 to 3, 1 for 4 to 15, 2 for 16 to 63 … */
function generationOf(executions: number): number {
  return Math.min(LAST_GENERATION, Math.floor((31 - Math.clz32(executions)) / 2));
}
