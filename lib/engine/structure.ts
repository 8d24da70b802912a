import { types } from 'node:util';
import { type Branch, type Frame, runInFrame } from './branch.js';
import { CancelledError, ValidationError } from './errors.js';

/** Functions by name: each becomes a branch of the run. */
export type Branches = Record<string, () => unknown>;
/** How one branch ended. */
export type SettledBranch<Value> = { status: 'fulfilled'; value: Value } | { status: 'rejected'; error: unknown };

/** Refuses what are no branches: a call that has begun already could not be cancelled as a branch is. @throws ValidationError */
export function checkBranches(what: string, branches: Branches, least: 0 | 1 = 0): void {
  if (typeof branches !== 'object' || branches === null)
    throw new ValidationError(what, [{ message: `it takes functions by name, not ${String(branches)}` }]);
  const issues = Object.entries(branches)
    .filter(([, code]) => typeof code !== 'function')
    .map(([name, code]) => ({ message: `branch '${name}' ${notAFunction(code)}`, path: [name] }));
  if (Object.keys(branches).length < least) issues.push({ message: 'without a branch it has no winner', path: [] });
  if (issues.length) throw new ValidationError(what, issues);
}

/** @throws ValidationError */
export function checkFunction(what: string, code: unknown): void {
  if (typeof code !== 'function') throw new ValidationError(what, [{ message: `what it runs ${notAFunction(code)}` }]);
}

/** A Set or an iterator has no length, and would be mapped as if it were empty. @throws ValidationError */
export function checkItems(what: string, items: unknown): void {
  if (!Array.isArray(items))
    throw new ValidationError(what, [{ message: `it takes an array of items, not ${String(items)}` }]);
}

function notAFunction(code: unknown): string {
  const hint = types.isPromise(code) ? ' (write () => in front of the call)' : '';
  return `must be a function, not ${types.isPromise(code) ? 'a Promise' : typeof code}${hint}`;
}

interface Part<Value> {
  branch: Branch;
  promise: Promise<Value>;
}

/** Runs code as a part of the run that can be cancelled as a whole. */
function startPart<Value>(frame: Frame, code: () => Value | Promise<Value>): Part<Value> {
  const branch = frame.branch.fork();
  const promise = runInFrame(frame.in(branch), async () => await code());
  promise.catch(() => {});
  return { branch, promise };
}

/** Cancels what still runs of these parts: child runs, timers, step bodies. What has ended is not touched. */
function leaveBehind(frame: Frame, parts: Iterable<Part<unknown>>): void {
  for (const { branch } of parts) {
    branch.cancel(new CancelledError('left behind'));
    frame.branch.leave(branch);
  }
}

function startAll(frame: Frame, branches: Branches): [string, Part<unknown>][] {
  return Object.entries(branches).map(([name, code]) => [name, startPart(frame, code)]);
}

/** The first branch to end, even by an error; the others are cancelled. */
export async function race(frame: Frame, branches: Branches): Promise<{ winner: string; value: unknown }> {
  const parts = startAll(frame, branches);
  try {
    return await Promise.race(parts.map(async ([winner, { promise }]) => ({ winner, value: await promise })));
  } finally {
    leaveBehind(
      frame,
      parts.map(([, part]) => part),
    );
  }
}

/** The first branch to succeed; the others are cancelled. Throws an AggregateError when none does. */
export async function any(frame: Frame, branches: Branches): Promise<{ winner: string; value: unknown }> {
  const parts = startAll(frame, branches);
  try {
    return await Promise.any(parts.map(async ([winner, { promise }]) => ({ winner, value: await promise })));
  } finally {
    leaveBehind(
      frame,
      parts.map(([, part]) => part),
    );
  }
}

/** The values of all branches by name; the first error cancels the others. */
export async function all(frame: Frame, branches: Branches): Promise<Record<string, unknown>> {
  const parts = startAll(frame, branches);
  try {
    return Object.fromEntries(
      await Promise.all(parts.map(async ([name, { promise }]) => [name, await promise] as const)),
    );
  } finally {
    leaveBehind(
      frame,
      parts.map(([, part]) => part),
    );
  }
}

/** How each branch ended, by name. */
export async function allSettled(frame: Frame, branches: Branches): Promise<Record<string, SettledBranch<unknown>>> {
  const parts = startAll(frame, branches);
  const settle = async ([name, { promise }]: [string, Part<unknown>]): Promise<[string, SettledBranch<unknown>]> => {
    try {
      return [name, { status: 'fulfilled', value: await promise }];
    } catch (error) {
      return [name, { status: 'rejected', error }];
    }
  };
  try {
    return Object.fromEntries(await Promise.all(parts.map(settle)));
  } finally {
    for (const [, { branch }] of parts) frame.branch.leave(branch);
  }
}

export interface MapPlan<Result> {
  /** Items at a time. */
  concurrency: number;
  /** Asked after each result: true ends the map at once and cancels the rest. */
  isDecided?(result: Result): boolean;
}

/** Maps items in branches, in the order of the items; the first error cancels the rest. Undecided places stay empty. */
export async function mapInBranches<Item, Result>(
  frame: Frame,
  items: readonly Item[],
  code: (item: Item, index: number) => Promise<Result> | Result,
  { concurrency, isDecided }: MapPlan<Result>,
): Promise<(Result | undefined)[]> {
  const results: (Result | undefined)[] = Array.from(items, () => undefined);
  const parts = new Set<Part<Result>>();
  let next = 0;
  let isOver = false;
  let decide!: () => void;
  const decided = new Promise<void>((resolve) => (decide = resolve));
  const runLane = async (): Promise<void> => {
    while (next < items.length && !isOver) {
      const index = next++;
      const part = startPart(frame, () => code(items[index]!, index));
      parts.add(part);
      const result = await part.promise;
      if (isOver) return;
      results[index] = result;
      parts.delete(part);
      frame.branch.leave(part.branch);
      isOver = isDecided?.(result) ?? false;
      if (isOver) decide();
    }
  };
  try {
    const lanes = Array.from({ length: Math.min(concurrency, items.length) }, runLane);
    await Promise.race([Promise.all(lanes), decided]);
  } finally {
    isOver = true;
    leaveBehind(frame, parts);
  }
  return results;
}

/** Runs code that a cancellation from outside does not reach. */
export async function shield<Value>(frame: Frame, code: () => Promise<Value> | Value): Promise<Value> {
  const branch = frame.branch.shield();
  try {
    return await runInFrame(frame.in(branch), async () => await code());
  } finally {
    frame.branch.leave(branch);
  }
}
