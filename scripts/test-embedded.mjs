// `npm run test:embedded [-- <jest arguments>]`: the tests on the embedded database, whatever else is at hand.
import { npm } from './npm.mjs';

process.exit(npm(['test', '--', ...process.argv.slice(2)], { DATABASE_URL: '', TEST_DATABASE: 'embedded' }));
