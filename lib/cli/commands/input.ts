import type { Duration } from '../../engine/duration.js';
import type { OpenInput, PendingInput } from '../../engine/input-store.js';
import { toCount, toDuration, toDurationMs } from '../arguments.js';
import type { CommandLine } from '../command-line.js';
import { UsageError } from '../exit-code.js';
import { checkReadable } from '../plain-payload.js';
import { withProgress } from '../progress.js';
import { findRunId } from '../run-reference.js';
import { shortened } from '../run-text.js';
import { type Column, toTable } from '../table.js';
import { describeAge } from '../time-text.js';

interface PendingOptions {
  workflow?: string;
  expiringWithin?: number;
  limit: number;
  cursor?: string;
}

interface AnswerOptions {
  timeout?: Duration;
  plain?: true;
}

export function addInputCommands(commandLine: CommandLine): void {
  addPendingCommand(commandLine);
  addInputCommand(commandLine);
}

function addPendingCommand({ program, onEngine }: CommandLine): void {
  program
    .command('pending')
    .description('What runs wait for people to answer, the longest waiting first.')
    .option('--workflow <name>', 'of this workflow')
    .option('--expiring-within <duration>', 'whose time is over so soon', toDurationMs)
    .option('--limit <count>', 'at most so many (1 to 1000)', toCount, 50)
    .option('--cursor <cursor>', 'the next page: what the one before said')
    .action(({ expiringWithin, ...filter }: PendingOptions) =>
      onEngine(async ({ orchestrator, output }) => {
        const expiring = expiringWithin === undefined ? {} : { expiringBefore: new Date(Date.now() + expiringWithin) };
        const page = await orchestrator.inputs.list({ ...filter, ...expiring });
        const toText = (inputs: readonly PendingInput[]) =>
          toTable(inputs, columnsOf(inputs, output.width), output.width);
        output.showPage(page, toText, 'Nobody waits for an answer.');
      }),
    );
}

function columnsOf(inputs: readonly PendingInput[], width: number): Column<PendingInput>[] {
  const short = width === Infinity ? (id: string) => id : shortened(inputs.map(({ runId }) => runId));
  const isCuttable = true;
  return [
    { title: 'RUN', cell: ({ runId }) => short(runId) },
    { title: 'WORKFLOW', cell: ({ workflow }) => workflow, isCuttable },
    { title: 'INPUT', cell: ({ name }) => name, isCuttable },
    { title: 'TYPE', cell: ({ type }) => type },
    { title: 'PROMPT', cell: ({ prompt }) => prompt ?? '', isCuttable },
    { title: 'CHOICES', cell: ({ choices }) => choices?.join(' | ') ?? '', isCuttable },
    { title: 'EXPIRES', cell: ({ expiresAt }) => (expiresAt ? describeAge(expiresAt) : '') },
  ];
}

function addInputCommand({ program, onEngine }: CommandLine): void {
  program
    .command('input')
    .description('Answers what a run waits for (see pending).')
    .argument('<run>', 'its id, the beginning of it, or workflow/key')
    .argument('<name>', 'of the input')
    .argument(
      '<value>',
      'yes or no for an approval, one of the choices, a text, or JSON for a form; -- before one that begins with -',
    )
    .option('--timeout <duration>', 'how long a worker may take to check a form (15s)', toDuration)
    .option('--plain', 'although the payloads of this engine are encrypted, which this command cannot do')
    .action((reference: string, name: string, text: string, { timeout, plain }: AnswerOptions) =>
      onEngine(async ({ orchestrator, engine, output, listen }) => {
        const runId = await findRunId(engine, reference);
        const asking = await engine.store.inputs.find(runId, name);
        const input = asking?.inputs.find((one) => one.name === name && one.isPending);
        // Without one, `provide` says what there is to answer instead.
        const value = input ? toAnswer(input, text) : text;
        if (input && !plain) await checkReadable(engine, 'The answer');
        if (input?.judgedByRun) await listen();
        await withProgress(`answering '${name}'`, () =>
          orchestrator.inputs.provide(runId, name, value, timeout === undefined ? {} : { timeout }),
        );
        output.show({ id: runId, input: name, value }, () => `${runId}: '${name}' is answered`);
      }),
    );
}

const APPROVALS: Record<string, boolean> = { yes: true, true: true, no: false, false: false };

function toAnswer({ name, type }: OpenInput, text: string): unknown {
  if (type === 'choice' || type === 'text') return text;
  if (type === 'approval') {
    const approval = APPROVALS[text.toLowerCase()];
    if (approval === undefined) throw new UsageError(`'${name}' is an approval: answer yes or no, not '${text}'.`);
    return approval;
  }
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new UsageError(`'${name}' is a form: answer with JSON, such as '{"count": 3}'.`);
  }
}
