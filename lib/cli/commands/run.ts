import { text as readAll } from 'node:stream/consumers';
import { Option } from 'commander';
import type { Duration } from '../../engine/duration.js';
import { RunCancelledError, RunFailedError, UnreadablePayloadError } from '../../engine/errors.js';
import type { RunHandle } from '../../engine/orchestrator.js';
import type { Attributes } from '../../engine/run.js';
import { toAttributes, toDuration, toInteger, toJsonValue, toTime } from '../arguments.js';
import type { CommandLine, Session } from '../command-line.js';
import type { Client } from '../client.js';
import { EXIT, UsageError } from '../exit-code.js';
import { describeError, describePayload } from '../payload-text.js';
import { checkReadable } from '../plain-payload.js';
import { withProgress } from '../progress.js';

interface RunOptions {
  input?: string;
  plain?: true;
  wait?: true;
  waitTimeout?: Duration;
  key?: string;
  onConflict?: 'existing' | 'reject' | 'replace';
  debounce?: Duration;
  queue?: string;
  priority?: number;
  delay?: Duration;
  startAt?: Date;
  timeout?: Duration;
  tenant?: string;
  label?: string;
  attribute?: Attributes;
}

export function addRunCommand({ program, onEngine }: CommandLine): void {
  program
    .command('run')
    .description('Starts a run of a workflow that a live worker has.')
    .argument('<workflow>', 'its name')
    .option('--input <json>', 'its input; - reads it from stdin')
    .option('--plain', 'although the payloads of this engine are encrypted, which this command cannot do')
    .option('--wait', 'wait for its end, and print its output; exit with 1 unless it completes')
    .option('--wait-timeout <duration>', 'with --wait: no longer than this; exit with 6', toDuration)
    .option('--key <key>', 'one run for each key: the run that has it, if there is one')
    .addOption(new Option('--on-conflict <how>', 'when the key is taken').choices(['existing', 'reject', 'replace']))
    .option(
      '--queue <name>',
      "where it is claimed from, 'default' if not given: what the workflow says is known to its own app only",
    )
    .option('--priority <number>', 'higher is claimed first', toInteger)
    .option('--debounce <duration>', 'begin so long after the last start with this key', toDuration)
    .option('--delay <duration>', 'begin so much later', toDuration)
    .option('--start-at <time>', 'begin then', toTime)
    .option('--timeout <duration>', 'how long it may take', toDuration)
    .option('--tenant <name>', 'whose run it is')
    .option('--label <text>', 'a name for people')
    .option('--attribute <name=value>', 'to be found by; may be repeated', toAttributes)
    .action((workflow: string, options: RunOptions) =>
      onEngine(async (session) => {
        const { input, plain, wait, waitTimeout, attribute, ...start } = options;
        if (waitTimeout !== undefined && !wait) throw new UsageError('--wait-timeout goes with --wait.');
        const value = input === undefined ? undefined : await readInput(input);
        if (value !== undefined && !plain) await checkReadable(session.engine, 'The input');
        if (wait) await session.listen();
        const run = await session.orchestrator.start(workflow, value, { ...start, attributes: attribute });
        if (wait) await showResult(session, run, waitTimeout);
        else session.output.show({ id: run.id, started: run.started }, () => run.id);
        if (!run.started && !wait) session.output.remark('The key has this run already; nothing was started.');
      }),
    );
}

async function readInput(input: string): Promise<unknown> {
  const text = input === '-' ? await readAll(process.stdin) : input;
  try {
    return toJsonValue(text);
  } catch {
    throw new UsageError(`--input must be JSON: a text needs its quotes, '"like this"'.`);
  }
}

async function showResult(
  session: Session & Client,
  { id, started, result }: RunHandle,
  timeout?: Duration,
): Promise<void> {
  const { engine, orchestrator, output, exitWith } = session;
  // The run is to begin before anybody waits for it.
  await engine.tellOthers();
  const ended = result(timeout === undefined ? {} : { timeout });
  await withProgress(`waiting for run ${id}`, () => ended.catch(leaveToTheRun));
  const run = await orchestrator.get(id);
  const { status } = run;
  if (run.status === 'completed') {
    output.show({ id, started, status, output: run.output }, () =>
      describePayload(run.output, { columns: output.width, lines: Infinity }),
    );
  } else {
    exitWith(EXIT.found);
    const error = 'error' in run ? run.error : undefined;
    if (output.isJson) output.show({ id, started, status, error }, () => '');
    output.remark(`Run ${id} is ${status}${error ? `: ${describeError(error)}` : ''}`);
  }
}

/** How it ended is in the run, also where only its app can read what it says. */
function leaveToTheRun(error: unknown): void {
  const isEnd =
    error instanceof RunFailedError || error instanceof RunCancelledError || error instanceof UnreadablePayloadError;
  if (!isEnd) throw error;
}
