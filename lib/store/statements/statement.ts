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

/** What `run_ready` contains: what waits for a worker. */
export const IS_READY = (run: string) => `${run}.ready_at is not null and not ${run}.paused`;

/** Of one queue and one definition, in the order of `run_ready`. */
export const isReadyOf = (run: string, queue: string, definition: string) => `${run}.queue = ${queue}
      and ${run}.workflow = ${definition}.workflow
      and ${run}.version = ${definition}.version
      and ${IS_READY(run)}`;

/** No worker has more; hidden from the planner, as `(select …)`, it makes it expect few. */
export const MOST_DEFINITIONS = 10_000;

/**
 * Those of the definitions in that parameter that have runs on the queue which wait for a worker. They are found by jumps through the index,
 * one for each definition that is there: however many runs wait that only others have the code of, they cost one jump.
 */
export function readyDefinitions(queue: string, definitions: string): string {
  const first = (after: string) => `
        select r.workflow, r.version
        from @schema.run r
        where r.queue = ${queue}
          and ${IS_READY('r')}${after}
        order by r.workflow, r.version
        limit 1`;
  return `
      with recursive present(workflow, version) as (
        (${first('')})
        union all
        select next.workflow, next.version
        from present
        cross join lateral (${first(`
          and (r.workflow, r.version) > (present.workflow, present.version)`)}) next
      )
      select present.workflow, present.version
      from present
      where ${isOneOf('present', definitions)}
      limit (select ${MOST_DEFINITIONS})`;
}

/** How many seconds of waiting make up for one step of priority, so that what is urgent cannot starve the rest for ever. */
const AGEING_S = 60;

/** Seconds on the clock at which a run of no priority would have to be claimable to come as early. The least comes first. */
export function urgency(run: string): string {
  return urgencyOf(`${run}.ready_at`, `${run}.priority`);
}

export function urgencyOf(readyAt: string, priority: string): string {
  return `(date_part('epoch', ${readyAt} at time zone 'UTC') - ${priority} * ${AGEING_S}.0)`;
}

/** The output of the entry of a history of that alias: that of its run, where the two are stored once. */
export function outputOf(entry: string): string {
  return `case when ${entry}.output_in_run then (select whole.output from @schema.run whole where whole.id = ${entry}.run_id) else ${entry}.output end`;
}

/** The limits of the queue of that alias. */
export function limitsOf(queue: string): string {
  return `coalesce(${queue}.override, ${queue}.configured)`;
}

/** Whether a claim has anything to respect: a queue that is paused or has limits. Others need have no row. */
export function isGated(queue: string): string {
  return `(${queue}.paused or ${limitsOf(queue)} <> '{}')`;
}

/** The names of such queues. */
export const GATED_QUEUES = `select gate.name from @schema.queue gate where ${isGated('gate')}`;

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
