import { CommanderError } from 'commander';
import {
  EmbeddedDatabaseError,
  DatabaseUnavailableError,
  InputNotJudgedError,
  OrchestrationError,
  ResultTimeoutError,
  SchemaBehindError,
} from '../engine/errors.js';

/** What a command ends with. The numbers are for scripts and never change. */
export const EXIT = {
  fine: 0,
  /** What was asked about is not as it should be (behind, failed, a problem), or something unforeseen happened. */
  found: 1,
  /** The command line is wrong, or a value in it. */
  usage: 2,
  /** No database, none that answers, or one whose tables are behind. */
  database: 3,
  /** No such run, workflow, schedule… */
  notFound: 4,
  /** The run, or whatever it is, is not in a state for that. */
  refused: 5,
  /** Waiting took too long. */
  timeout: 6,
} as const;

/** The command line is wrong: said by us, where Commander cannot know it. */
export class UsageError extends Error {}

/** What would be stored as it is, among what is encrypted. */
export class EncryptedPayloadsError extends Error {
  constructor(what: string) {
    super(
      `${what} would be stored unencrypted: payloads of this engine go through a codec, which only the apps have. Do it from an app ` +
        'that has the codec (its Orchestrator), or give --plain to store it as it is.',
    );
  }
}

export function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.fine : EXIT.usage;
  if (error instanceof UsageError) return EXIT.usage;
  if (
    error instanceof DatabaseUnavailableError ||
    error instanceof SchemaBehindError ||
    error instanceof EmbeddedDatabaseError
  )
    return EXIT.database;
  if (error instanceof ResultTimeoutError || error instanceof InputNotJudgedError) return EXIT.timeout;
  if (error instanceof EncryptedPayloadsError) return EXIT.refused;
  return error instanceof OrchestrationError ? codeOfStatus(error.statusCode) : EXIT.found;
}

/** The errors of the library say by an HTTP status whose fault they are. */
function codeOfStatus(status: number | undefined): number {
  switch (status) {
    case 404:
      return EXIT.notFound;
    case 409:
    case 429:
      return EXIT.refused;
    case 400:
    case 422:
      return EXIT.usage;
    default:
      return EXIT.found;
  }
}
