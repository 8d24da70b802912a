import { OrchestrationError } from 'nestjs-orchestration';

/** What the person at the keyboard can mend; the message says how. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** Ends the process with code 1. An error that explains itself is shown without its stack. */
export function exitWithReason(error: unknown): never {
  const explainsItself = error instanceof UsageError || error instanceof OrchestrationError;
  console.error(explainsItself ? error.message : error);
  process.exit(1);
}
