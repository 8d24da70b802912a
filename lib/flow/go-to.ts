/** The mark by which a recorded result is known as a jump: text, since results come back from the database as data. */
const MARK = 'orchestration:goTo';

/** What {@link goTo} returns: a step of a flow that returns it jumps. */
export interface GoTo {
  readonly [MARK]: string;
  readonly data?: unknown;
}

/**
 * Returned by a step of a flow: the run goes on with that later step, and with this data, or else with the data as it is. The
 * steps between are left out.
 *
 * @example `return goTo('ship', { ...order, giftWrapped: true });`
 */
export function goTo(step: string, data?: unknown): GoTo {
  return data === undefined ? { [MARK]: step } : { [MARK]: step, data };
}

/** Where a step's result jumps to, if it is a jump. */
export function jumpOf(result: unknown): { target: string; data: unknown } | undefined {
  if (typeof result !== 'object' || result === null || !Object.hasOwn(result, MARK)) return undefined;
  const { [MARK]: target, data } = result as GoTo;
  return { target, data };
}
