import { existingEmbeddedPostgres } from '../embedded/embedded-postgres.js';
import type { PostgresOptions } from '../store/database.js';
import { UsageError } from './exit-code.js';

const APPLICATION_NAME = 'orchestration-cli';

/** Which database: the one of `--url`, else of DATABASE_URL, else the embedded one of this folder's app. */
export async function findConnection(givenUrl: string | undefined): Promise<PostgresOptions> {
  const url = givenUrl ?? process.env['DATABASE_URL'];
  if (url) return { type: 'postgres', url: checked(url, givenUrl === undefined ? 'DATABASE_URL' : '--url') };
  const embedded = process.env['NODE_ENV'] === 'production' ? undefined : await existingEmbeddedPostgres();
  if (embedded) return { ...embedded, applicationName: APPLICATION_NAME };
  throw new UsageError(
    'Which database? Give --url postgres://user@host/database, or set DATABASE_URL; or run this in the folder of an app that has ' +
      'an embedded one (.orchestration), unless NODE_ENV is production.',
  );
}

/** What cannot be read is not repeated: there may be a password in it. */
function checked(url: string, origin: string): string {
  const protocol = URL.canParse(url) ? new URL(url).protocol : undefined;
  if (protocol === 'postgres:' || protocol === 'postgresql:') return url;
  throw new UsageError(`${origin} is no URL of a PostgreSQL database, such as postgres://user@host:5432/database.`);
}
