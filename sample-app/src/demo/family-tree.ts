import type { RunStatus, RunTree } from 'nestjs-orchestration';

import { paint } from './paint.js';
import { seconds } from './seconds.js';

const CHART_WIDTH = 28;
const NAME_WIDTH = 26;
const STYLES: Partial<Record<RunStatus, 'green' | 'red' | 'yellow'>> = {
  completed: 'green',
  failed: 'red',
  cancelled: 'yellow',
};

interface Row {
  name: string;
  run: RunTree;
}

/** A family of runs, one line each: who it is, how it ended, when it began, how long it took. */
export function drawFamily(root: RunTree): string[] {
  const startedAt = root.createdAt.getTime();
  const rows = listRows(root, { lead: '', branch: '' });
  const total = Math.max(...rows.map(({ run }) => endOf(run) - startedAt), 1);
  return rows.map(({ name, run }) => {
    const begin = run.createdAt.getTime() - startedAt;
    const duration = endOf(run) - run.createdAt.getTime();
    const columns = [
      name.padEnd(NAME_WIDTH),
      paint(STYLES[run.status] ?? 'blue', run.status.padEnd(9)),
      `+${seconds(begin)}`.padStart(8),
      seconds(duration).padStart(8),
      paint('cyan', bar(begin / total, duration / total)),
    ];
    return `  ${columns.join('  ')}`.trimEnd();
  });
}

/** How many runs it has. */
export function sizeOf({ children }: RunTree): number {
  return children.reduce((sum, child) => sum + sizeOf(child), 1);
}

function listRows(run: RunTree, { lead, branch }: { lead: string; branch: string }): Row[] {
  const inner = branch === '' ? '' : lead + (branch === '└─ ' ? '   ' : '│  ');
  const last = run.children.length - 1;
  return [
    { name: lead + branch + nameOf(run), run },
    ...run.children.flatMap((child, index) => listRows(child, { lead: inner, branch: index === last ? '└─ ' : '├─ ' })),
  ];
}

function nameOf({ workflow, ref, label }: RunTree): string {
  if (ref === undefined) return label ?? workflow;
  return ref.startsWith(workflow) ? ref : `${workflow}: ${ref}`;
}

function endOf({ finishedAt }: RunTree): number {
  return (finishedAt ?? new Date()).getTime();
}

/** When, within the family's life, as a piece of a line. */
function bar(from: number, length: number): string {
  const left = Math.min(Math.floor(from * CHART_WIDTH), CHART_WIDTH - 1);
  const width = Math.max(1, Math.round(length * CHART_WIDTH));
  return ' '.repeat(left) + '━'.repeat(Math.min(width, CHART_WIDTH - left));
}
