import { readFile } from 'node:fs/promises';
import { relative } from 'node:path';

import {
  findNodeAtLocation,
  getNodeValue,
  type Node,
  type ParseError,
  parseTree,
  printParseErrorCode,
} from 'jsonc-parser';
import { z } from 'zod';

import { UsageError } from '../exit-with-reason.js';
import { type PlacedOrder, placedOrderSchema } from '../orders/placed-order.js';

const ordersSchema = z
  .array(placedOrderSchema)
  .min(1, 'there is no order in it')
  .superRefine((orders, context) => {
    const seen = new Set<string>();
    for (const [index, { id }] of orders.entries()) {
      if (seen.has(id))
        context.addIssue({ code: 'custom', path: [index, 'id'], message: `there is another order '${id}' before` });
      seen.add(id);
    }
  });

const PROBLEMS_SHOWN = 10;

/** Reads orders from a JSON file. @throws UsageError that names the file, the line and the field of each problem */
export async function readOrdersFile(path: string): Promise<PlacedOrder[]> {
  const name = relative(process.cwd(), path);
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw new UsageError(`The orders file ${name} cannot be read: ${(error as Error).message}`);
  });
  const source = parse(text, name);
  const result = ordersSchema.safeParse(getNodeValue(source));
  if (result.success) return result.data;
  const problems = result.error.issues.map(({ path: field, message }) => {
    const place = `${name}:${lineAt(text, nodeAt(source, field).offset)}`;
    return `${place}: ${field.length > 0 ? `${describe(field)}: ` : ''}${message}`;
  });
  throw new UsageError(shorten(problems).join('\n'));
}

function parse(text: string, name: string): Node {
  const errors: ParseError[] = [];
  const source = parseTree(text, errors, { disallowComments: true });
  const [error] = errors;
  if (source && !error) return source;
  const problem = error ? printParseErrorCode(error.error) : 'it is empty';
  throw new UsageError(`${name}:${lineAt(text, error?.offset ?? 0)}: this is no JSON: ${problem}`);
}

/** The value at that path, or the innermost one around it where it is missing. */
function nodeAt(source: Node, path: PropertyKey[]): Node {
  const segments = path.map((segment) => (typeof segment === 'symbol' ? String(segment) : segment));
  for (let length = segments.length; length > 0; length -= 1) {
    const node = findNodeAtLocation(source, segments.slice(0, length));
    if (node) return node;
  }
  return source;
}

function lineAt(text: string, offset: number): number {
  return text.slice(0, offset).split('\n').length;
}

/** `orders[3].lines[0].quantity` */
function describe(path: PropertyKey[]): string {
  return path.reduce<string>(
    (field, segment) => (typeof segment === 'number' ? `${field}[${segment}]` : `${field}.${String(segment)}`),
    'orders',
  );
}

function shorten(problems: string[]): string[] {
  const left = problems.length - PROBLEMS_SHOWN;
  return left > 0 ? [...problems.slice(0, PROBLEMS_SHOWN), `… and ${left} more`] : problems;
}
