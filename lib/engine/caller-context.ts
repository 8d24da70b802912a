import { AsyncResource } from 'node:async_hooks';
import { ValidationError } from './errors.js';

/**
 * Carries what surrounds a start (the request's user, locale, trace) to the code of the run and its steps, in every
 * process and replay. Stored with the run as a payload is.
 */
export interface CallerContext {
  /** What to keep of the caller's async context. Asked once for each call of `start`; `undefined` when there is nothing. */
  capture(): unknown;
  /**
   * Calls `next`, before it returns, in what `capture` has kept: a fresh copy each time. `undefined` for a run that has none,
   * such as a child that does not inherit it; then `next` must not see that of somebody else.
   */
  run(context: unknown, next: () => void): void;
}

/** What is wrong with an object as one, for the report at boot. */
export function callerContextProblems(context: object): string[] {
  return (['capture', 'run'] satisfies (keyof CallerContext)[])
    .filter((method) => typeof (context as Record<string, unknown>)[method] !== 'function')
    .map((method) => `context has no method ${method}`);
}

/** Runs code in the context of a caller. Throws when the carrier does not call it at once. */
export function runInContext<T>(carrier: CallerContext, context: unknown, code: () => T): T {
  let result: { value: T } | undefined;
  carrier.run(context, () => (result = { value: code() }));
  if (result) return result.value;
  throw new ValidationError('context.run', [{ message: 'it must call next before it returns' }]);
}

/** Belongs to no request and no run. */
const nowhere = new AsyncResource('nestjs-orchestration');

/**
 * Runs code outside of every async context. A run begins wherever the engine learns of it: in the request that started
 * another, or after a write of another run. What those have in an AsyncLocalStorage is none of its business.
 */
export function outside<T>(code: () => T): T {
  return nowhere.runInAsyncScope(code);
}
