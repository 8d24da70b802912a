const TRANSIENT_SQL_STATES = new Set([
  '40001', // serialisation failure
  '40P01', // deadlock
  '57014', // cancelled: by an operator, or a statement_timeout
  '53300', // too many connections
  '55P03', // lock not available
  '57P01', // the server shuts down
  '57P02',
  '57P03', // it starts up
  '25P03', // silent for too long in a transaction
  '25006', // read-only: a primary that has become a standby
]);
const TRANSIENT_SYSTEM_CODES = new Set([
  'ECONNRESET',
  'ECONNREFUSED',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
]);
/** What node-postgres says without a code when a connection is lost, cannot be had, or does not answer. */
const TRANSIENT_MESSAGES =
  /connection terminated|query read timeout|timeout exceeded when trying to connect|client has encountered a connection error|connection timeout/i;

/** Whether the same statement may succeed a moment later: the database was away, moving or busy, or two transactions collided. */
export function isTransient(error: unknown): boolean {
  const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown };
  if (typeof code === 'string') {
    if (TRANSIENT_SQL_STATES.has(code) || code.startsWith('08') || TRANSIENT_SYSTEM_CODES.has(code)) return true;
  }
  return typeof message === 'string' && TRANSIENT_MESSAGES.test(message);
}

/** Of those, what says nothing of the database: it answers, and may not do this now. */
const ANSWERED_SQL_STATES = new Set(['40001', '40P01', '55P03', '57014', '25P03']);

/** Whether the database could not be used, by anybody, when this was said. */
export function isOutage(error: unknown): boolean {
  return isTransient(error) && !ANSWERED_SQL_STATES.has((error as { code: string }).code);
}

/** Whether two transactions collided, by this error or one that it came from, also as TypeORM has wrapped it. */
export function isCollision(error: unknown): boolean {
  const seen = new Set<unknown>();
  for (let link = error; typeof link === 'object' && link !== null && !seen.has(link);) {
    seen.add(link);
    const { code, driverError, cause } = link as { code?: unknown; driverError?: unknown; cause?: unknown };
    if (code === '40001' || code === '40P01') return true;
    link = cause ?? driverError;
  }
  return false;
}

/** Whether somebody else held a lock for longer than the statement was to wait. */
export function isLockTimeout(error: unknown): boolean {
  return (error as { code?: unknown } | null | undefined)?.code === '55P03';
}

/** Whether what was to be inserted is there already. */
export function isTaken(error: unknown): boolean {
  return (error as { code?: unknown } | null | undefined)?.code === '23505';
}

/** Whether the statement may have been committed although it failed: its reply was lost. */
export function isInDoubt(error: unknown): boolean {
  const { code } = (error ?? {}) as { code?: unknown };
  return isTransient(error) && code !== '40001' && code !== '40P01' && code !== '53300' && code !== '55P03';
}
