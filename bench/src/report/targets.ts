import { Numbers } from './numbers.js';

/** What the benchmark is to show, as a number of one run: mostly a ratio. */
export interface Target {
  scenario: string;
  text: string;
  /** The bound: at least, or at most. */
  atLeast?: number;
  atMost?: number;
  value(numbers: Numbers): number | undefined;
}

export interface Verdict {
  scenario: string;
  text: string;
  bound: string;
  value: number | undefined;
  isMet: boolean | undefined;
}

const overPeers = (metric: string) => (numbers: Numbers) =>
  over(numbers.ours(metric), numbers.bestPeer(metric, 'largest'));
const overFloor = (metric: string) => (numbers: Numbers) => over(numbers.ours(metric), numbers.of('floor', metric));
const own = (metric: string) => (numbers: Numbers) => numbers.ours(metric);
const lastOverFirst = (name: string) => (numbers: Numbers) =>
  over(numbers.ours(`M.last.${name}`), numbers.ours(`M.first.${name}`));

const TARGETS: Target[] = [
  { scenario: 'A', text: 'runs/s, over the fastest durable peer', atLeast: 15, value: overPeers('A.perSecond') },
  {
    scenario: 'A',
    text: 'runs/s, over single-row commits/s of 8 clients',
    atLeast: 0.8,
    value: (numbers) => over(numbers.ours('A.perSecond'), numbers.of('database', '0.commitsPerSecond')),
  },
  { scenario: 'A', text: 'runs/s, over the floor', atLeast: 0.5, value: overFloor('A.perSecond') },
  { scenario: 'B', text: 'steps/s, over the fastest durable peer', atLeast: 20, value: overPeers('B.stepsPerSecond') },
  { scenario: 'B', text: 'steps/s, over the floor', atLeast: 0.5, value: overFloor('B.stepsPerSecond') },
  { scenario: 'C', text: 'pairs/s, over the fastest durable peer', atLeast: 20, value: overPeers('C.perSecond') },
  { scenario: 'C', text: 'pairs/s, over the floor', atLeast: 0.5, value: overFloor('C.perSecond') },
  {
    scenario: 'C',
    text: 'idle latency, over that of the quickest durable peer',
    atMost: 1 / 3,
    value: (numbers) => over(numbers.ours('C.idleP50'), numbers.bestPeer('C.idleP50', 'smallest')),
  },
  {
    scenario: 'D',
    text: 'time of many children, over that of as many runs by startMany',
    atMost: 1.3,
    value: (numbers) => over(numbers.ours('D.largeMs'), numbers.ours('D.startManyMs')),
  },
  {
    scenario: 'E',
    text: 'idle latency, over two bare commits from node',
    atMost: 3,
    value: (numbers) => over(numbers.ours('E.idleP50'), numbers.of('database', '0.twoCommitsP50')),
  },
  { scenario: 'F', text: 'signal from another process, p50 in ms', atMost: 10, value: own('F.otherP50') },
  { scenario: 'F', text: 'signal from another process, p99 in ms', atMost: 50, value: own('F.otherP99') },
  {
    scenario: 'G',
    text: 'statements/s with the most parked runs, to one digit',
    atMost: 1,
    value: (numbers) => round(numbers.ours('G.largeStatementsPerSecond')),
  },
  { scenario: 'G', text: 'MiB more memory with the most parked runs', atMost: 150, value: own('G.largeMemoryMiB') },
  {
    scenario: 'I',
    text: 'MB/s of 1 MiB, over the fastest durable peer',
    atLeast: 1.5,
    value: overPeers('I.1MiBMBPerSecond'),
  },
  {
    scenario: 'L',
    text: 'runs/s with the finished runs, over an empty table',
    atLeast: 0.9,
    value: (numbers) => over(numbers.ours('L.full.perSecond'), numbers.ours('L.empty.perSecond')),
  },
  {
    scenario: 'L',
    text: 'start, over an empty table',
    atMost: 1.2,
    value: (numbers) => over(numbers.ours('L.full.startP50'), numbers.ours('L.empty.startP50')),
  },
  { scenario: 'L', text: 'slowest first page of a list, over an empty table', atMost: 2, value: slowestPage },
  { scenario: 'M', text: 'runs/s at the end, over the beginning', atLeast: 0.9, value: lastOverFirst('perSecond') },
  { scenario: 'M', text: 'idle latency at the end, over the beginning', atMost: 1.2, value: lastOverFirst('idleP50') },
  { scenario: 'M', text: 'memory at the end, over the beginning', atMost: 1.2, value: lastOverFirst('memoryMiB') },
  {
    scenario: 'M',
    text: 'bytes for each row at the end, over the beginning',
    atMost: 1.1,
    value: lastOverFirst('bytesPerRow'),
  },
  { scenario: 'N', text: 'replay, ms', atMost: 100, value: own('N.replayMs') },
];

/** How the targets of the scenarios that were measured came out. */
export function judge(numbers: Numbers): Verdict[] {
  return TARGETS.map((target) => verdict(target, target.value(numbers))).filter(({ value }) => value !== undefined);
}

function verdict({ scenario, text, atLeast, atMost }: Target, value: number | undefined): Verdict {
  const isMet = value === undefined ? undefined : value >= (atLeast ?? -Infinity) && value <= (atMost ?? Infinity);
  const bound = atLeast === undefined ? `≤ ${Number(atMost!.toPrecision(2))}` : `≥ ${atLeast}`;
  return { scenario, text, bound, value, isMet };
}

/** How much longer the first page takes, of the list where that is most. */
function slowestPage(numbers: Numbers): number | undefined {
  const [system] = numbers.systems('ours');
  const ratios = Object.keys(numbers.results.values[system ?? ''] ?? {})
    .filter((metric) => metric.startsWith('L.empty.list.'))
    .flatMap((metric) => over(numbers.ours(metric.replace('empty', 'full')), numbers.ours(metric)) ?? []);
  return ratios.length > 0 ? Math.max(...ratios) : undefined;
}

function over(value: number | undefined, base: number | undefined): number | undefined {
  return value === undefined || base === undefined || base === 0 ? undefined : value / base;
}

function round(value: number | undefined): number | undefined {
  return value === undefined ? undefined : Math.round(value * 10) / 10;
}
