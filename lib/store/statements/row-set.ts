import { ArrayParameter, type ColumnType } from '../array-parameter.js';

/**
 * Rows that a statement takes as one array for each column: `unnest($1::uuid[], $2::text[], …) as r(id, name, …)`. The
 * text of such a statement is the same for one row and for a thousand, so it is prepared once.
 */
export class RowSet<Column extends string> {
  readonly names: readonly Column[];

  constructor(private readonly columns: Record<Column, ColumnType>) {
    this.names = Object.keys(columns) as Column[];
  }

  /** How many parameters it takes. */
  get width(): number {
    return this.names.length;
  }

  /**
   * The from-item, with its parameters numbered from `first`. The first is hidden from the planner, which would otherwise
   * count its elements, find that a plan for so few rows is cheaper than one for any number, and plan at each execution:
   * for the statement of the group commit that takes longer than executing it.
   */
  unnest(alias: string, first: number): string {
    const arrays = this.names.map((name, index) => {
      const array = `$${first + index}::${this.columns[name]}[]`;
      return index === 0 ? `(select ${array})` : array;
    });
    return `unnest(${arrays.join(', ')}) as ${alias}(${this.names.join(', ')})`;
  }

  /** The parameters for these rows. */
  parameters(rows: readonly Record<Column, unknown>[]): ArrayParameter[] {
    return this.names.map((name) => {
      const values = rows.map((row) => row[name]);
      return new ArrayParameter(this.columns[name], values);
    });
  }
}
