/** Where the reporter leaves its counts, one JSON line for each test run, when a caller sums several. */
export const SUMMARY_FILE = process.env.TEST_SUMMARY_FILE;

/** The line every CI can read; `runs` are the counts of one or more test runs. */
export function closingLine(runs) {
  const total = { passed: 0, failed: 0, skipped: 0 };
  for (const run of runs) {
    for (const key of Object.keys(total)) total[key] += run[key];
  }
  return `${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`;
}
