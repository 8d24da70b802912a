interface Idle {
  workflow: string;
  version: number;
  queue: string;
  status: string;
}

interface Claimant {
  alive: boolean;
  workflows: string[];
  queues: string[];
}

/** Why a run that is to go on stays where it is: no live worker would take it. Undefined when one would, or nobody has to. */
export function unservedReason(
  { workflow, version, queue, status }: Idle,
  workers: readonly Claimant[],
): string | undefined {
  if (status !== 'pending' && status !== 'waiting') return undefined;
  const live = workers.filter(({ alive }) => alive);
  const id = `${workflow}@${version}`;
  const knowing = live.filter(({ workflows }) => workflows.includes(id));
  if (live.length === 0) return `No worker is alive: this run stays ${status} until one is started.`;
  if (knowing.length === 0)
    return `No live worker has ${id}: this run stays ${status} until an app that provides it is deployed.`;
  if (!knowing.some(({ queues }) => queues.includes(queue)))
    return `No live worker that has ${id} serves the queue '${queue}': this run stays ${status} until one does.`;
  return undefined;
}
