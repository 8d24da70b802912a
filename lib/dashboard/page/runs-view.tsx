import { useState } from 'preact/hooks';
import type { Page, Run, Stats } from './api.js';
import { Empty, Problem, RunLink, Status, Table, Time } from './parts.js';
import { useWatched } from './watch.js';

const STATUSES = ['pending', 'running', 'waiting', 'blocked', 'completed', 'failed', 'cancelled'];
const PAGE = 50;

/** The filter is in the address, so that it can be sent to others. */
export function RunsView({ filter }: { filter: URLSearchParams }) {
  // The cursors of the pages before this one; it begins anew with each filter.
  const [before, setBefore] = useState<string[]>([]);
  const query = new URLSearchParams(filter);
  query.set('limit', String(PAGE));
  const cursor = before.at(-1);
  if (cursor !== undefined) query.set('cursor', cursor);
  const { data, problem } = useWatched<Page<Run>>(`runs?${query}`);
  return (
    <>
      <h1>Runs</h1>
      <Numbers />
      <Filter filter={filter} />
      <Problem text={problem} />
      {data?.items.length === 0 && <Empty>No runs here.</Empty>}
      {data && data.items.length > 0 && <RunTable runs={data.items} />}
      <nav class="buttons" aria-label="Pages">
        {before.length > 0 && (
          <button type="button" onClick={() => setBefore(before.slice(0, -1))}>
            Newer
          </button>
        )}
        {data?.nextCursor !== undefined && (
          <button type="button" onClick={() => setBefore([...before, data.nextCursor!])}>
            Older
          </button>
        )}
      </nav>
    </>
  );
}

function Numbers() {
  const { data } = useWatched<Stats>('stats');
  return (
    <ul class="numbers" aria-label="Runs by status">
      {STATUSES.map((status) => (
        <li key={status}>
          <a href={`#/runs?status=${status}`}>
            <strong>{data?.runs[status]?.toLocaleString() ?? '–'}</strong> {status}
          </a>
        </li>
      ))}
    </ul>
  );
}

function Filter({ filter }: { filter: URLSearchParams }) {
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    const given = [...new FormData(event.currentTarget as HTMLFormElement)].flatMap(([name, value]) =>
      typeof value === 'string' && value.trim() !== '' ? [[name, value.trim()]] : [],
    );
    window.location.hash = `#/runs?${new URLSearchParams(given)}`;
  };
  const text = (name: string, label: string) => (
    <label>
      {label}
      <input name={name} defaultValue={filter.get(name) ?? ''} />
    </label>
  );
  return (
    <form class="filter" role="search" onSubmit={submit}>
      {text('search', 'Id, key or label')}
      {text('workflow', 'Workflow')}
      {text('tenant', 'Tenant')}
      <label>
        Status
        <select name="status" defaultValue={filter.get('status') ?? ''}>
          <option value="">any</option>
          {STATUSES.map((status) => (
            <option key={status} selected={status === filter.get('status')}>
              {status}
            </option>
          ))}
        </select>
      </label>
      <label class="check">
        <input type="checkbox" name="rootOnly" value="true" defaultChecked={filter.get('rootOnly') === 'true'} />
        Without children
      </label>
      <button type="submit">Filter</button>
      <a href="#/runs">Clear</a>
    </form>
  );
}

function RunTable({ runs }: { runs: Run[] }) {
  return (
    <Table
      label="Runs"
      rows={runs}
      keyOf={({ id }) => id}
      columns={[
        { title: 'Status', of: (run) => <Status of={run.status} paused={run.paused} /> },
        {
          title: 'Workflow',
          of: (run) => (
            <RunLink id={run.id}>
              {run.workflow}
              <small> v{run.version}</small>
            </RunLink>
          ),
        },
        { title: 'Key or label', of: (run) => run.key ?? run.label ?? '–' },
        { title: 'Tenant', of: (run) => run.tenant ?? '–' },
        {
          title: 'Waits for',
          of: (run) => run.waitingFor.map(({ kind, name }) => `${kind} ${name}`).join(', ') || '–',
        },
        { title: 'Created', of: (run) => <Time at={run.createdAt} /> },
      ]}
    />
  );
}
