import type { Frame } from './branch.js';
import { ValidationError } from './errors.js';

/**
 * Ends this pass over the run, and lets the run go on from the beginning of its code with another input.
 *
 * One transaction forgets the history, sets the input, raises the generation and the epoch, and leaves the run running
 * where it is. So a crash leaves the old generation, whose code comes here again, or the new one. Invariant: nothing of
 * one generation is taken for the other's.
 * - A late write of the old one carries the old epoch. After a lost reply the transaction finds that it was done.
 * - Children that have ended free their refs; those that are active keep theirs, are given to whoever asks for an explicit
 *   one, and are no part of the history that the new code must follow. What names itself (refs of children, keys of
 *   steps, random values) has the number of the generation in it.
 * - A cancellation locks the run's row as this does. Before it, the run ends cancelled, for its code has ended; after it,
 *   the new generation is cancelled.
 * - Compensations are registered by the history that is forgotten. So there must be none: what is done by then is done for good.
 */
export async function continueAsNew({ execution, branch, attempt }: Frame, input: unknown): Promise<never> {
  if (attempt) throw insideStep(attempt.context.step);
  const cancellation = branch.cancellation ?? execution.cancellation;
  if (cancellation) throw cancellation;
  if (!execution.compensations.isEmpty) throw somethingToUndo();
  execution.continueAs(execution.serializer.encode(input, `the input of workflow '${execution.run.workflow}'`));
  return await new Promise<never>(() => {});
}

function insideStep(step: string): ValidationError {
  const message = `it was called in the body of step '${step}'; only the code of the workflow itself can continue the run`;
  return new ValidationError('ctx.continueAsNew', [{ message }]);
}

function somethingToUndo(): ValidationError {
  const message =
    'the run has registered compensations, which it would not know any more; call ctx.commit() first, so that nothing of it will be undone';
  return new ValidationError('ctx.continueAsNew', [{ message }]);
}
