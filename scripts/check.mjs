// `npm run check`: all that CI does. A stage that fails does not stop the later ones, so that one run names every
// problem; the tests come last, because their closing line is to be the last line. Ends with 1 when tests have failed and
// nothing else, with 2 when anything else has.
import { npm } from './npm.mjs';

// The build before the linter, which reads the types of the sample app's imports from it.
const STAGES = ['format', 'types', 'build', 'lint', 'dead-code', 'duplicates', 'package'];

const failed = STAGES.filter((stage) => npm(['run', stage]) !== 0);
if (failed.length > 0) console.error(`\nFailed before the tests: ${failed.join(', ')}\n`);

const tests = npm(['test']);
process.exit(failed.length > 0 ? 2 : tests);
