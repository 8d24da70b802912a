// `npm run test:pooler [-- <jest arguments>]`: the end-to-end tests through PgBouncer in transaction mode. What the engine
// says and does there without a direct connection is in test/store/pooler.spec.ts, which every test run has.
import { npm } from './npm.mjs';

const END_TO_END = [
  'test/sample-app/',
  'test/crash/(workers|bank).spec.ts',
  'test/engine/(cancel|children|children-map|inputs|queues|signals).spec.ts',
];
const chosen = process.argv.slice(2);

process.exit(npm(['test', '--', ...(chosen.length ? chosen : END_TO_END)], { TEST_POOLER: 'pgbouncer' }));
