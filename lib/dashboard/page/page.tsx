import { render } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { InputsView, QueuesView, SchedulesView, WorkersView } from './other-views.js';
import { MayChange, Problem } from './parts.js';
import { RunView } from './run-view.js';
import { RunsView } from './runs-view.js';
import { useLiveness, useWatched } from './watch.js';

const VIEWS = { runs: 'Runs', inputs: 'Inputs', queues: 'Queues', schedules: 'Schedules', workers: 'Workers' };

function useHash(): string {
  const [hash, setHash] = useState(window.location.hash);
  useEffect(() => {
    const update = () => setHash(window.location.hash);
    window.addEventListener('hashchange', update);
    return () => window.removeEventListener('hashchange', update);
  }, []);
  return hash.replace(/^#\/?/, '') || 'runs';
}

function App() {
  const [place, query] = useHash().split('?') as [string, string | undefined];
  const [view, id] = place.split('/') as [string, string | undefined];
  const { data: access, problem } = useWatched<{ mayChange: boolean; engine?: string }>('access');
  const isLive = useLiveness();
  return (
    <MayChange.Provider value={access?.mayChange ?? false}>
      <header>
        <a class="title" href="#/runs">
          Orchestration{access?.engine !== undefined && <small> {access.engine}</small>}
        </a>
        <nav aria-label="Views">
          {Object.entries(VIEWS).map(([name, title]) => (
            <a key={name} href={`#/${name}`} aria-current={name === view ? 'page' : undefined}>
              {title}
            </a>
          ))}
        </nav>
        <span class={isLive ? 'live on' : 'live'} role="status">
          {isLive ? 'live' : 'not live'}
          {access && !access.mayChange && ' · read-only'}
        </span>
      </header>
      <main>
        <Problem text={problem} />
        <View view={view} id={id} query={query ?? ''} />
      </main>
    </MayChange.Provider>
  );
}

function View({ view, id, query }: { view: string; id: string | undefined; query: string }) {
  if (view === 'runs' && id !== undefined) return <RunView key={id} id={decodeURIComponent(id)} />;
  if (view === 'inputs') return <InputsView />;
  if (view === 'queues') return <QueuesView />;
  if (view === 'schedules') return <SchedulesView />;
  if (view === 'workers') return <WorkersView />;
  return <RunsView key={query} filter={new URLSearchParams(query)} />;
}

render(<App />, document.body);
