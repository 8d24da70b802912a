import type { WorkerInfo } from '../../engine/statistics.js';
import type { CommandLine } from '../command-line.js';
import { styled } from '../output.js';
import { shortened } from '../run-text.js';
import { type Column, toTable } from '../table.js';
import { describeAge } from '../time-text.js';

export function addWorkersCommand({ program, onEngine }: CommandLine): void {
  program
    .command('workers')
    .description('The processes that execute runs, the longest running first.')
    .action(() =>
      onEngine(async ({ orchestrator, output }) => {
        const workers = await orchestrator.workers.list();
        output.show(workers, () =>
          workers.length ? toTable(workers, columnsOf(workers, output.width), output.width) : 'No workers.',
        );
      }),
    );
}

function columnsOf(workers: readonly WorkerInfo[], width: number): Column<WorkerInfo>[] {
  const short = width === Infinity ? (id: string) => id : shortened(workers.map(({ id }) => id));
  return [
    { title: 'ID', cell: ({ id }) => short(id) },
    { title: 'HOST', cell: ({ host }) => host, isCuttable: true },
    { title: 'PID', cell: ({ pid }) => String(pid), isNumber: true },
    { title: 'STARTED', cell: ({ startedAt }) => describeAge(startedAt) },
    {
      title: 'HEARTBEAT',
      cell: ({ heartbeatAt, alive }) =>
        alive ? describeAge(heartbeatAt) : styled('red', `dead, ${describeAge(heartbeatAt)}`),
    },
    { title: 'RUNNING', cell: ({ running }) => String(running), isNumber: true },
    { title: 'QUEUES', cell: ({ queues }) => queues.join(', '), isCuttable: true },
    { title: 'WORKFLOWS', cell: ({ workflows }) => workflows.join(', '), isCuttable: true },
  ];
}
