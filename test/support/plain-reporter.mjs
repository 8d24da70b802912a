import { appendFileSync } from 'node:fs';

import { closingLine, SUMMARY_FILE } from '../../scripts/closing-line.mjs';

/**
 * Ends a test run with the plain line `N passed, N failed, N skipped`, which any CI can read. Under a caller that sums
 * several test runs (TEST_SUMMARY_FILE names its file) the counts go there instead, so that there is one such line.
 */
export default class PlainReporter {
  onRunComplete(_contexts, results) {
    const counts = {
      passed: results.numPassedTests,
      // A file that does not even load has no tests to count; it must not look like a pass.
      failed: results.numFailedTests + results.numRuntimeErrorTestSuites,
      skipped: results.numPendingTests + results.numTodoTests,
    };
    const failedFiles = results.testResults.filter(hasFailed).map(({ testFilePath }) => testFilePath);
    if (SUMMARY_FILE) appendFileSync(SUMMARY_FILE, `${JSON.stringify({ ...counts, failedFiles })}\n`);
    // At the exit, because jest prints its own summary after every other reporter.
    else process.once('exit', () => process.stdout.write(`${closingLine([counts])}\n`));
  }
}

function hasFailed({ numFailingTests, testExecError }) {
  return numFailingTests > 0 || testExecError !== undefined;
}
