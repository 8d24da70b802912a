import { npmPackages } from '../common-tests.js';
import type { Page } from '../page.js';
import { cancellation } from './cancellation.js';
import { children } from './children.js';
import { cli } from './cli.js';
import { compensation } from './compensation.js';
import { concepts } from './concepts.js';
import { callerContext } from './context.js';
import { contributing } from './contributing.js';
import { dashboard } from './dashboard.js';
import { databases } from './databases.js';
import { errorsAndRetries } from './errors-and-retries.js';
import { events } from './events.js';
import { flows } from './flows.js';
import { gettingStarted } from './getting-started.js';
import { inputs } from './inputs.js';
import { longSteps } from './long-steps.js';
import { theModule } from './module.js';
import { nestEnhancers } from './nest-enhancers.js';
import { observability } from './observability.js';
import { operations } from './operations.js';
import { payloads } from './payloads.js';
import { queues } from './queues.js';
import { readme } from './readme.js';
import { runContext } from './run-context.js';
import { scaffolding } from './scaffolding.js';
import { schedules } from './schedules.js';
import { signals } from './signals.js';
import { starting } from './starting.js';
import { testing } from './testing.js';
import { transactions } from './transactions.js';
import { versions } from './versions.js';

const performance: Page = { path: 'docs/performance/README.md', blocks: { 'Repeat it': npmPackages } };

export const PAGES: readonly Page[] = [
  ...[readme, gettingStarted, concepts, cli, operations, performance, contributing],
  ...[theModule, starting, runContext, children, signals, inputs, flows, schedules],
  ...[errorsAndRetries, transactions, longSteps, cancellation, compensation, versions],
  ...[databases, queues, payloads, callerContext, nestEnhancers, events],
  ...[testing, dashboard, observability, scaffolding],
];

/** Blocks that nothing runs, with the reason. */
export const NOT_RUN: Record<string, Record<string, string>> = {
  'docs/getting-started.md': {
    '1. An app':
      'makes an app with what the registry has at that moment; the blocks that follow are run in such an app',
  },
  'docs/architecture.md': {
    'In one picture': 'a picture',
    'The life of a run': 'a picture',
    Inputs: 'a picture',
  },
};
