import type { HistoryEntry, RunDetails } from '../../engine/run.js';
import { toCount } from '../arguments.js';
import type { CommandLine } from '../command-line.js';
import { styled } from '../output.js';
import { describeError, describePayload, summariseError, summarisePayload } from '../payload-text.js';
import { findRunId } from '../run-reference.js';
import { describeStatus, describeWait, shortened, tookOf } from '../run-text.js';
import { type Column, toFacts, toTable } from '../table.js';
import { describeAge, describeTime } from '../time-text.js';

interface InspectOptions {
  full?: true;
  entries: number;
}

const SHORT_PAYLOAD_LINES = 12;

export function addInspectCommand({ program, onEngine }: CommandLine): void {
  program
    .command('inspect')
    .description('A run with its payloads and its history.')
    .argument('<run>', 'its id, the beginning of it, or workflow/key')
    .option('--entries <count>', 'the last so many entries of the history', toCount, 50)
    .option('--full', 'payloads and history whole')
    .action((reference: string, options: InspectOptions) =>
      onEngine(async ({ orchestrator, engine, output }) => {
        const id = await findRunId(engine, reference);
        const run = await orchestrator.get(id);
        const history = await orchestrator.history(id);
        output.show({ run, history }, () => describe(run, history, { ...options, width: output.width }));
      }),
    );
}

function describe(
  run: RunDetails,
  history: HistoryEntry[],
  { full, entries, width }: InspectOptions & { width: number },
): string {
  const lines = full ? Infinity : SHORT_PAYLOAD_LINES;
  const shown = full ? history : history.slice(Math.max(0, history.length - entries));
  const left = history.length - shown.length;
  return [
    factsOf(run, (value) => describePayload(value, { columns: width - 14, lines })),
    '',
    styled('bold', left > 0 ? `History (the last ${shown.length} of ${history.length} entries)` : 'History'),
    shown.length ? toTable(shown, columnsOf(shown), full ? Infinity : width) : 'Nothing is recorded.',
  ].join('\n');
}

function factsOf(run: RunDetails, payload: (value: unknown) => string): string {
  const time = (at: Date | undefined) => at && describeTime(at);
  return toFacts({
    run: run.id,
    workflow: `${run.workflow}@${run.version}`,
    status: describeStatus(run),
    'waits for': run.waitingFor.map(describeWait).join('\n'),
    key: run.key,
    label: run.label,
    queue: run.priority === 0 ? run.queue : `${run.queue}, priority ${run.priority}`,
    tenant: run.tenant,
    attributes: Object.keys(run.attributes).length ? payload(run.attributes) : undefined,
    created: time(run.createdAt),
    started: time(run.startedAt),
    finished:
      run.finishedAt &&
      `${time(run.finishedAt)}${run.startedAt ? `, took ${tookOf(run.startedAt, run.finishedAt)}` : ''}`,
    wakes: run.status === 'waiting' || run.status === 'pending' ? time(run.wakeAt) : undefined,
    worker: run.workerId,
    compensation: run.compensation === 'none' ? undefined : run.compensation,
    recoveries: run.recoveries ? String(run.recoveries) : undefined,
    parent: run.parentId && `${run.parentId}${run.ref === undefined ? '' : ` (as '${run.ref}')`}`,
    family: run.rootId === run.id ? undefined : `${run.rootId}, depth ${run.depth}`,
    input: payload(run.input),
    state: run.state === undefined ? undefined : payload(run.state),
    heartbeats: run.heartbeats
      .map(
        ({ step, attempt, progress, at }) =>
          `${step}, attempt ${attempt}, ${describeAge(at)}: ${summarisePayload(progress)}`,
      )
      .join('\n'),
    output: run.status === 'completed' ? payload(run.output) : undefined,
    error: 'error' in run ? describeError(run.error) : undefined,
  });
}

function columnsOf(entries: readonly HistoryEntry[]): Column<HistoryEntry>[] {
  const short = shortened(entries.flatMap(({ childId }) => childId ?? []));
  return [
    { title: '#', cell: ({ seq }) => String(seq), isNumber: true },
    { title: 'KIND', cell: ({ kind }) => kind },
    { title: 'NAME', cell: ({ key }) => key, isCuttable: true },
    { title: 'STATUS', cell: ({ status }) => (status === 'completed' ? status : styled('red', status)) },
    { title: 'TRIES', cell: ({ attempts }) => (attempts > 1 ? String(attempts) : ''), isNumber: true },
    { title: 'TOOK', cell: ({ startedAt, finishedAt }) => tookOf(startedAt, finishedAt), isNumber: true },
    { title: 'ENDED', cell: ({ finishedAt }) => describeAge(finishedAt) },
    { title: 'CHILD', cell: ({ childId }) => (childId ? short(childId) : '') },
    {
      title: 'OUTCOME',
      cell: ({ error, output }) => (error ? summariseError(error) : summarisePayload(output)),
      isCuttable: true,
    },
  ];
}
