import type { AnyOperation } from '../operation.js';
import { FLEET_OPERATIONS } from './fleet.js';
import { INPUT_OPERATIONS } from './inputs.js';
import { QUEUE_OPERATIONS } from './queues.js';
import { RUN_OPERATIONS } from './runs.js';
import { SCHEDULE_OPERATIONS } from './schedules.js';

export const OPERATIONS: readonly AnyOperation[] = [
  ...RUN_OPERATIONS,
  ...INPUT_OPERATIONS,
  ...QUEUE_OPERATIONS,
  ...SCHEDULE_OPERATIONS,
  ...FLEET_OPERATIONS,
];
