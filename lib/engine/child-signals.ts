import type { Frame } from './branch.js';
import type { ChildLink } from './child-links.js';
import { PayloadError, RunFinishedError, RunNotFoundError, ValidationError } from './errors.js';
import { nameOfSignal } from './signal.js';
import { checkSent, type Message, toNewSignal } from './signal-sender.js';
import type { StepContext } from './step-execution.js';
import { callStep, PLAIN_STEP, StepCall } from './steps.js';

/** What was wrong with a signal, as the step that sent it records it: each pass throws the same error of its own class. */
type Refusal =
  | { error: 'finished'; status: string }
  | { error: 'unknown' }
  | { error: 'invalid'; what: string; issues: ValidationError['issues'] }
  | { error: 'payload'; what: string; path: string; problem: string };

/** Sends a signal to a child as a step. The step's own key makes it one signal, also if it was sent and its outcome lost. */
export async function sendFromRun(frame: Frame, link: ChildLink, message: Message): Promise<void> {
  const { host, serializer } = frame.execution;
  const name = nameOfSignal(message.signal);
  const send = async ({ idempotencyKey }: StepContext) => {
    try {
      const options = { ...message.options, id: message.options.id ?? idempotencyKey };
      checkSent(await host.signal(await toNewSignal(link.id, { ...message, options }, serializer)), link.id);
      return undefined;
    } catch (error) {
      return refusalOf(error);
    }
  };
  const args = [link.ref, name, message.payload];
  const refusal = await callStep(frame, new StepCall('children.signal', args, PLAIN_STEP, send));
  if (refusal) throw errorOf(refusal as Refusal, link.id);
}

function refusalOf(error: unknown): Refusal {
  if (error instanceof RunFinishedError) return { error: 'finished', status: error.runStatus };
  if (error instanceof RunNotFoundError) return { error: 'unknown' };
  if (error instanceof ValidationError) return { error: 'invalid', what: error.what, issues: error.issues };
  if (error instanceof PayloadError)
    return { error: 'payload', what: error.what, path: error.path, problem: error.problem };
  throw error;
}

function errorOf(refusal: Refusal, childId: string): Error {
  switch (refusal.error) {
    case 'finished':
      return new RunFinishedError(childId, refusal.status);
    case 'unknown':
      return new RunNotFoundError(childId);
    case 'invalid':
      return new ValidationError(refusal.what, refusal.issues);
    case 'payload':
      return new PayloadError(refusal.what, refusal.path, refusal.problem);
  }
}
