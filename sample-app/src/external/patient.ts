import type { RetryOptions } from 'nestjs-orchestration';

/** For calls of services that are out of order now and then, and back in a moment. */
export const PATIENT: RetryOptions = { maxAttempts: 10, initialInterval: '100ms', maxInterval: '5s' };
