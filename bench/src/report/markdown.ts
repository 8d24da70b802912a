import type { Gap, Results } from '../results.js';
import { Numbers, short } from './numbers.js';
import { COMPARISONS, type Table, tables } from './tables.js';
import { judge } from './targets.js';

/** The tables of the report. */
export function markdown(results: Results): string {
  const numbers = new Numbers(results);
  return [
    machine(results),
    targets(numbers),
    ...tables(results.sizes).map((table) => systemTable(table, numbers)),
    ...COMPARISONS.map((comparison) => comparisonTable(comparison, numbers)),
    gaps('Not measured, because the system does not have it', missing(results)),
    gaps('Failed', results.failed),
    settings(results),
  ]
    .filter((part) => part !== '')
    .join('\n\n');
}

function machine({ measuredAt, machine: m, sizes }: Results): string {
  const server = Object.entries(m.settings)
    .filter(([, value]) => value !== '')
    .map(([name, value]) => `${name} ${value}`)
    .join(', ');
  return [
    `Measured on ${measuredAt.slice(0, 10)}: ${m.cpus} cores (${m.cpu}), ${m.memoryGiB} GiB, Node ${m.node.slice(1)}, PostgreSQL ${m.postgres} (${server}).`,
    `Medians of up to ${sizes.rounds} ${sizes.rounds === 1 ? 'round' : 'rounds'}; in brackets the distance from the slowest to the fastest round, as a share of the median.`,
  ].join('\n');
}

function targets(numbers: Numbers): string {
  const verdicts = judge(numbers);
  if (verdicts.length === 0) return '';
  const rows = verdicts.map(({ scenario, text, bound, value, isMet }) => [
    scenario,
    text,
    bound,
    short(value!),
    isMet ? 'met' : '**missed**',
  ]);
  return section('Targets', ['', '', 'target', 'measured', ''], rows);
}

function systemTable({ title, columns }: Table, numbers: Numbers): string {
  const rows = numbers.results.systems
    .map(({ name }) => [name, ...columns.map(({ metric }) => numbers.text(name, metric))])
    .filter(([, ...cells]) => cells.some((cell) => cell !== undefined));
  const used = columns.filter((_, index) => rows.some((row) => row[index + 1] !== undefined));
  const kept = (row: (string | undefined)[]) =>
    row.filter((_, index) => index === 0 || used.includes(columns[index - 1]!));
  return section(
    title,
    ['', ...used.map((column) => column.title)],
    rows.map((row) => kept(row).map((cell) => cell ?? '–')),
  );
}

function comparisonTable({ prefixes, titles, title }: (typeof COMPARISONS)[number], numbers: Numbers): string {
  const [before, after] = prefixes;
  const rows = numbers.results.systems.flatMap(({ name }) =>
    Object.keys(numbers.results.values[name] ?? {})
      .filter((metric) => metric.startsWith(before))
      .map((metric) => {
        const what = metric.slice(before.length);
        return [name, what, short(numbers.of(name, metric)!), short(numbers.of(name, after + what) ?? Number.NaN)];
      }),
  );
  return section(title, ['', '', ...titles], rows);
}

function gaps(title: string, list: Gap[]): string {
  return section(
    title,
    ['', '', ''],
    list.map(({ system, scenario, reason }) => [system, scenario, reason]),
  );
}

/** The floor and the database are no systems to miss anything. */
function missing({ missing: list, systems }: Results): Gap[] {
  const peers = systems.filter(({ kind }) => kind === 'durable' || kind === 'queue').map(({ name }) => name);
  return list.filter(({ system }) => peers.includes(system));
}

function settings({ systems }: Results): string {
  return section(
    'Versions and settings',
    ['', 'version', ''],
    systems.map((system) => [system.name, system.version, system.settings]),
  );
}

function section(title: string, head: string[], rows: string[][]): string {
  if (rows.length === 0) return '';
  const line = (cells: string[]) =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|').replaceAll('\n', ' ')).join(' | ')} |`;
  return [`### ${title}`, '', line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}
