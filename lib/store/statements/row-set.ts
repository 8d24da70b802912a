import { ArrayParameter, type ColumnType } from '../array-parameter.js';

type Constant = string | number | boolean;

interface RowSetOptions<Column extends string, Kept extends Column> {
  /**
   * Columns that the rows leave out, and only tell by their `position`: see {@link RowSet.at}. For payloads that a statement needs
   * once, at its end: on the way there, each of its parts would copy them.
   */
  kept?: readonly Kept[];
  /** What columns that are never null mostly are: it travels as null. */
  usual?: Partial<Record<Column, Constant>>;
}

/**
 * Rows that a statement takes as one array for each column: `unnest($1::uuid[], $2::text[], …) as r(id, name, …)`. The
 * text of such a statement is the same for one row and for a thousand, so it is prepared once.
 *
 * A column of nulls travels as an empty array, which `unnest` fills up: each value of each column costs node and PostgreSQL about half a
 * microsecond, and most columns of most batches hold nothing but nulls and what is usual.
 */
export class RowSet<Column extends string, Kept extends Column = never> {
  readonly names: readonly Column[];
  private readonly kept: readonly Kept[];
  private readonly usual: Partial<Record<Column, Constant>>;

  constructor(
    private readonly columns: Record<Column, ColumnType>,
    { kept = [], usual = {} }: RowSetOptions<Column, Kept> = {},
  ) {
    this.names = Object.keys(columns) as Column[];
    this.kept = kept;
    this.usual = usual;
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
    const names = this.names.filter((name) => !this.isKept(name));
    const arrays = names.map((name, index) =>
      index === 0 ? `(select ${this.array(name, first)})` : this.array(name, first),
    );
    const [ordinality, position] = this.kept.length ? [' with ordinality', ', position'] : ['', ''];
    const rows = `unnest(${arrays.join(', ')})${ordinality} as ${alias}(${names.join(', ')}${position})`;
    const values = names.map((name) => {
      const usual = this.usual[name];
      return usual === undefined ? name : `coalesce(${name}, ${toSql(usual)}) as ${name}`;
    });
    return `(select ${values.join(', ')}${position} from ${rows}) as ${alias}`;
  }

  /** A column of the row at that position, the first of which is 1. Finding a text takes time in proportion to its position. */
  at(name: Column, position: string, first: number): string {
    const value = `(${this.array(name, first)})[${position}]`;
    const usual = this.usual[name];
    return usual === undefined ? value : `coalesce(${value}, ${toSql(usual)})`;
  }

  private isKept(name: Column): boolean {
    return this.kept.includes(name as Kept);
  }

  /** The parameter of a column. */
  array(name: Column, first: number): string {
    return `$${first + this.names.indexOf(name)}::${this.columns[name]}[]`;
  }

  /** The parameters for these rows. */
  parameters(rows: readonly Record<Column, unknown>[]): ArrayParameter[] {
    return this.names.map((name) => {
      const usual = this.usual[name];
      let isEmpty = true;
      const values = rows.map((row) => {
        const value = row[name] === usual ? null : row[name];
        if (value !== null) isEmpty = false;
        return value;
      });
      return new ArrayParameter(this.columns[name], isEmpty ? [] : values);
    });
  }
}

function toSql(value: Constant): string {
  return typeof value === 'string' ? `'${value.replaceAll("'", "''")}'` : String(value);
}
