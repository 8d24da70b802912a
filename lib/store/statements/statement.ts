/** A hot statement: prepared once per connection under its name. `@schema` stands for the quoted schema. */
export interface Statement {
  name: string;
  text: string;
}

/** The statements of this folder, with the schema filled in once at start-up. */
export function inSchema<T extends Record<string, string>>(texts: T, schema: string): { [Name in keyof T]: Statement } {
  const quoted = quoteIdentifier(schema);
  const statements = Object.entries(texts).map(([name, text]) => [
    name,
    { name: `orchestration_${name}_${hash(schema)}`, text: text.replaceAll('@schema', () => quoted) },
  ]);
  return Object.fromEntries(statements) as { [Name in keyof T]: Statement };
}

export function quoteIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/**
 * Whether the run of that alias is of one of the definitions (`order@1`, …) in that parameter.
 *
 * Not written as `= any(…)`: the planner takes that to be almost never true, and then sorts a whole queue for its first
 * hundred runs instead of walking the index that has them in order.
 */
export function isOneOf(run: string, definitions: string): string {
  return `array_position(${definitions}::text[], ${run}.workflow || '@' || ${run}.version) is not null`;
}

/** The channel of an engine's hints. As long as a schema's name may be, a channel's may not. */
export function hintChannel(schema: string): string {
  return `orchestration_hints_${hash(schema)}`;
}

/** Two engines with different schemas may share a connection through a pooler: their statement names must differ. */
function hash(text: string): string {
  let value = 0;
  for (const char of text) value = (value * 31 + char.codePointAt(0)!) | 0;
  return (value >>> 0).toString(36);
}
