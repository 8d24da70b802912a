import Table from 'cli-table3';
import stringWidth from 'string-width';
import { harmless, styled } from './output.js';

/** A column of a table for people. One that is empty in all rows is left out. */
export interface Column<Row> {
  title: string;
  cell(row: Row): string;
  /** A number: stands at the right. */
  isNumber?: boolean;
  /** May be cut, where the terminal is too narrow. */
  isCuttable?: boolean;
}

const GAP = '  ';
const NARROWEST = 10;
const NO_LINES = Object.fromEntries(
  [
    ...['top', 'top-mid', 'top-left', 'top-right', 'bottom', 'bottom-mid', 'bottom-left', 'bottom-right'],
    ...['left', 'left-mid', 'mid', 'mid-mid', 'right', 'right-mid'],
  ].map((place) => [place, '']),
);

/** A table without lines, which is as easy to read and easier to cut up. */
export function toTable<Row>(rows: readonly Row[], columns: readonly Column<Row>[], width: number): string {
  const cells = rows.map((row) => columns.map((column) => plain(column.cell(row))));
  const shown = columns
    .map((column, index) => ({ column, index }))
    .filter(({ index }) => cells.some((row) => row[index] !== ''));
  const widths = fit(
    shown.map(({ column, index }) => ({
      natural: Math.max(stringWidth(column.title), ...cells.map((row) => stringWidth(row[index]!))),
      isCuttable: column.isCuttable ?? false,
    })),
    width - GAP.length * (shown.length - 1),
  );
  const table = new Table({
    chars: { ...NO_LINES, middle: GAP },
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
    colWidths: widths,
    colAligns: shown.map(({ column }) => (column.isNumber ? 'right' : 'left')),
    head: shown.map(({ column }) => styled('bold', column.title)),
  });
  for (const row of cells) table.push(shown.map(({ index }) => row[index]!));
  return table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}

interface Want {
  natural: number;
  isCuttable: boolean;
}

/** Takes from the widest, as long as it is too much. */
function fit(wants: readonly Want[], width: number): number[] {
  const widths = wants.map(({ natural }) => natural);
  for (let excess = widths.reduce((sum, one) => sum + one, 0) - width; excess > 0; excess--) {
    const widest = wants.reduce(
      (best, { isCuttable }, index) =>
        isCuttable && widths[index]! > Math.max(NARROWEST, widths[best] ?? 0) ? index : best,
      -1,
    );
    if (widest === -1) break;
    widths[widest]!--;
  }
  return widths;
}

/** A text on one line. */
export function plain(text: string): string {
  return harmless(text.replaceAll(/\s+/g, ' '));
}

/** Facts, one on each line, those without a value left out. */
export function toFacts(facts: Record<string, string | undefined>): string {
  const given = Object.entries(facts).filter(([, value]) => value !== undefined && value !== '');
  const width = Math.max(...given.map(([name]) => name.length)) + GAP.length;
  return given
    .map(
      ([name, value]) =>
        styled('dim', name.padEnd(width)) + harmless(value!).replaceAll('\n', `\n${' '.repeat(width)}`),
    )
    .join('\n');
}
