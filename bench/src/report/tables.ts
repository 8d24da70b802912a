import type { Sizes } from '../sizes.js';

/** A table of the report: a row for each system that has one of the metrics. */
export interface Table {
  scenario: string;
  title: string;
  columns: { title: string; metric: string }[];
}

const COSTS = [
  ['oneStep', 'A run of one step'],
  ['tenSteps', 'A run of ten steps'],
  ['parentChild', 'A parent and its child'],
] as const;

export function tables({ fanOut, parked, doomed, replayed }: Sizes): Table[] {
  return [
    {
      scenario: 'A',
      title: 'Throughput, 200 runs in flight (A, B, C; K: four processes with 50 each)',
      columns: [
        column('A: one-step runs/s', 'A.perSecond'),
        column('B: steps/s of ten-step runs', 'B.stepsPerSecond'),
        column('C: parent + child /s', 'C.perSecond'),
        column('K: one-step runs/s', 'K.perSecond'),
        column("A: ms of node's CPU for a run", 'A.nodeCpuMs'),
      ],
    },
    {
      scenario: 'E',
      title: 'Latency of an idle system, ms (E: one step; C: parent and child; F: signal to completion)',
      columns: [
        ...percentiles('E', 'E.idle'),
        ...percentiles('C', 'C.idle'),
        ...percentiles('F, same process', 'F.same'),
        ...percentiles('F, from another process', 'F.other'),
      ],
    },
    {
      scenario: 'D',
      title: 'Fan-out and fan-in, ms (D)',
      columns: [
        column(`${count(fanOut.small)} children`, 'D.smallMs'),
        column(`${count(fanOut.large)} children`, 'D.largeMs'),
        column(`${count(fanOut.large)} runs by the operation for many`, 'D.startManyMs'),
      ],
    },
    {
      scenario: 'G',
      title: 'Parked runs (G)',
      columns: (['small', 'large'] as const).flatMap((size) => [
        column(`${count(parked[size])}: MiB more memory`, `G.${size}MemoryMiB`),
        column('statements/s', `G.${size}StatementsPerSecond`),
        column('woken by signals and ended, ms', `G.${size}WakeMs`),
      ]),
    },
    {
      scenario: 'H',
      title: 'Takeover and replay, ms (H, N)',
      columns: [
        column(`H: from SIGKILL to the end of ${count(doomed)} runs`, 'H.takeoverMs'),
        column(`N: replay of ${count(replayed)} outcomes`, 'N.replayMs'),
      ],
    },
    {
      scenario: 'I',
      title: 'Payloads, MB/s (I)',
      columns: ['1KiB', '64KiB', '1MiB'].map((size) =>
        column(size.replace('iB', ' iB').replace(/(\d+)(\w) /, '$1 $2'), `I.${size}MBPerSecond`),
      ),
    },
    ...COSTS.map(([operation, title]) => ({
      scenario: 'J',
      title: `${title} costs the database (J)`,
      columns: [
        column('statements', `J.${operation}.statements`),
        column('commits', `J.${operation}.commits`),
        column('bytes of WAL', `J.${operation}.walBytes`),
        column('ms of CPU', `J.${operation}.cpuMs`),
      ],
    })),
    {
      scenario: '0',
      title: 'The database itself',
      columns: [
        column('single-row commits/s, 8 clients', '0.commitsPerSecond'),
        column('two commits, ms', '0.twoCommitsP50'),
        column('a select, ms', '0.selectP50'),
        column('an fsync, ms', '0.fsyncP50'),
      ],
    },
  ];
}

/** Metrics that a system has in two states: a row for each. */
export const COMPARISONS = [
  {
    prefixes: ['L.empty.', 'L.full.'],
    titles: ['empty table', 'with the finished runs'],
    title: 'Millions of finished runs (L)',
  },
  { prefixes: ['M.first.', 'M.last.'], titles: ['in the beginning', 'at the end'], title: 'A long time of load (M)' },
] as const;

function column(title: string, metric: string) {
  return { title, metric };
}

function percentiles(title: string, metric: string) {
  return [column(`${title}: p50`, `${metric}P50`), column('p99', `${metric}P99`)];
}

function count(value: number): string {
  return value.toLocaleString('en');
}
