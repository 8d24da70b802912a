import { currentFrame, type Frame } from './branch.js';
import { NotInRunError } from './errors.js';

/** Where in a run the caller stands. Throws {@link NotInRunError} that names the member that was used. */
export function frameFor(member: string): Frame {
  const frame = currentFrame();
  if (!frame) throw new NotInRunError(member);
  return frame;
}

/** A promise of the library's own: when nobody awaits it, its error must not end the process. */
export function tolerant<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  return promise;
}
