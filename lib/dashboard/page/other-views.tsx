import { type Page, path, type PendingInput, type Queue, type Rate, type Schedule, send, type Worker } from './api.js';
import { AnswerForm, Button, Empty, Problem, RunLink, Status, Table, Time } from './parts.js';
import { useWatched } from './watch.js';

export function InputsView() {
  const { data, problem } = useWatched<Page<PendingInput>>('inputs');
  return (
    <>
      <h1>Inputs</h1>
      <Problem text={problem} />
      {data?.items.length === 0 && <Empty>No run waits for anybody.</Empty>}
      <div class="cards">
        {data?.items.map((input) => (
          <AnswerForm key={`${input.runId} ${input.name}`} input={input} />
        ))}
      </div>
      {data?.nextCursor !== undefined && <p class="quiet">There are more; these have waited longest.</p>}
    </>
  );
}

export function QueuesView() {
  const { data, problem } = useWatched<Queue[]>('queues');
  return (
    <>
      <h1>Queues</h1>
      <Problem text={problem} />
      {data?.length === 0 && <Empty>No queue has limits or runs.</Empty>}
      {data && data.length > 0 && (
        <Table
          label="Queues"
          rows={data}
          keyOf={({ name }) => name}
          columns={[
            {
              title: 'Queue',
              of: ({ name, paused }) => (
                <>
                  {name} {paused && <Status of="paused" />}
                </>
              ),
            },
            { title: 'Pending', of: ({ pending }) => pending },
            { title: 'Running', of: ({ running }) => running },
            { title: 'Oldest due', of: ({ oldestDueAt }) => <Time at={oldestDueAt} /> },
            { title: 'Limits', of: ({ limits }) => limitsOf(limits) },
            {
              title: 'Actions',
              of: ({ name, paused }) => (
                <div class="buttons">
                  <Button work={() => send('POST', path('queues', name, paused ? 'resume' : 'pause'), {})}>
                    {paused ? 'Resume' : 'Pause'}
                  </Button>
                  <Button
                    work={() => send('DELETE', path('queues', name, 'limits'))}
                    confirm={`Give the queue ${name} the limits that the app's configuration says?`}
                  >
                    Reset limits
                  </Button>
                </div>
              ),
            },
          ]}
        />
      )}
    </>
  );
}

function limitsOf(limits: Queue['limits']): string {
  const all = Object.entries(limits).map(([name, value]) => `${name} ${toText(value)}`);
  return all.join(', ') || 'none';
}

function toText(limit: number | Rate): string {
  if (typeof limit === 'number') return String(limit);
  return `${limit.limit} per ${typeof limit.per === 'number' ? `${limit.per} ms` : limit.per}`;
}

export function SchedulesView() {
  const { data, problem } = useWatched<Page<Schedule>>('schedules?limit=1000');
  return (
    <>
      <h1>Schedules</h1>
      <Problem text={problem} />
      {data?.items.length === 0 && <Empty>There are no schedules.</Empty>}
      {data && data.items.length > 0 && (
        <Table
          label="Schedules"
          rows={data.items}
          keyOf={({ id }) => id}
          columns={[
            {
              title: 'Schedule',
              of: ({ id, paused }) => (
                <>
                  {id} {paused && <Status of="paused" />}
                </>
              ),
            },
            { title: 'Workflow', of: ({ workflow }) => workflow },
            {
              title: 'When',
              of: ({ cron, every, timeZone }) => (cron ? `${cron} (${timeZone})` : `every ${every} ms`),
            },
            { title: 'Next', of: ({ nextRunAt }) => <Time at={nextRunAt} /> },
            {
              title: 'Last',
              of: ({ lastRunAt, lastRunId }) =>
                lastRunId ? (
                  <RunLink id={lastRunId}>
                    <Time at={lastRunAt} />
                  </RunLink>
                ) : (
                  '–'
                ),
            },
            {
              title: 'Actions',
              of: ({ id, paused }) => (
                <div class="buttons">
                  <Button work={() => send('POST', path('schedules', id, paused ? 'resume' : 'pause'), {})}>
                    {paused ? 'Resume' : 'Pause'}
                  </Button>
                  <Button work={() => send('POST', path('schedules', id, 'trigger'), {})}>Start now</Button>
                </div>
              ),
            },
          ]}
        />
      )}
    </>
  );
}

export function WorkersView() {
  const { data, problem } = useWatched<Worker[]>('workers');
  return (
    <>
      <h1>Workers</h1>
      <Problem text={problem} />
      {data?.length === 0 && <Empty>No worker is there: nothing runs.</Empty>}
      {data && data.length > 0 && (
        <Table
          label="Workers"
          rows={data}
          keyOf={({ id }) => id}
          columns={[
            { title: 'Worker', of: ({ host, pid }) => `${host} · ${pid}` },
            { title: 'State', of: ({ alive }) => <Status of={alive ? 'alive' : 'lost'} /> },
            { title: 'Running', of: ({ running }) => running },
            { title: 'Queues', of: ({ queues }) => queues.join(', ') },
            { title: 'Workflows', of: ({ workflows }) => workflows.join(', ') },
            { title: 'Started', of: ({ startedAt }) => <Time at={startedAt} /> },
            { title: 'Heartbeat', of: ({ heartbeatAt }) => <Time at={heartbeatAt} /> },
          ]}
        />
      )}
    </>
  );
}
