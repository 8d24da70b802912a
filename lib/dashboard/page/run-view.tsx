import { useContext, useId, useState } from 'preact/hooks';
import {
  type Entry,
  type Page,
  path,
  type PendingInput,
  type RunDetails,
  send,
  type Tree,
  type Worker,
} from './api.js';
import {
  AnswerForm,
  Button,
  Empty,
  ErrorView,
  Facts,
  Json,
  MayChange,
  parseValue,
  Problem,
  RunLink,
  Status,
  Time,
  useAction,
} from './parts.js';
import { unservedReason } from './unserved.js';
import { useWatched } from './watch.js';

/** What is shown of something long until it is asked for: a browser draws thousands slowly. */
const FIRST = 100;

export function RunView({ id }: { id: string }) {
  const run = useWatched<RunDetails>(path('runs', id));
  if (!run.data)
    return (
      <>
        <h1>Run</h1>
        <Problem text={run.problem} />
      </>
    );
  return (
    <>
      <Problem text={run.problem} />
      <Unserved run={run.data} />
      <Head run={run.data} />
      <div class="columns">
        <div>
          <WaitingFor run={run.data} />
          <History id={id} />
        </div>
        <div>
          <Payloads run={run.data} />
          <Family run={run.data} />
        </div>
      </div>
    </>
  );
}

function Unserved({ run }: { run: RunDetails }) {
  const { data } = useWatched<Worker[]>('workers');
  return <Problem text={data && unservedReason(run, data)} />;
}

function Head({ run }: { run: RunDetails }) {
  const { id } = run;
  const isFinished = ['completed', 'failed', 'cancelled'].includes(run.status);
  const post =
    (action: string, body: object = {}) =>
    () =>
      send('POST', path('runs', id, action), body);
  return (
    <>
      <h1>
        {run.workflow} <small>v{run.version}</small> <Status of={run.status} paused={run.paused} />
      </h1>
      <Facts
        of={[
          ['Run', <code key="id">{id}</code>],
          ['Key', run.key],
          ['Label', run.label],
          ['Tenant', run.tenant],
          ['Queue', run.queue],
          ['Priority', run.priority === 0 ? undefined : run.priority],
          ['Created', <Time key="created" at={run.createdAt} />],
          ['Started', run.startedAt && <Time at={run.startedAt} />],
          ['Finished', run.finishedAt && <Time at={run.finishedAt} />],
          ['Wakes', run.wakeAt && !isFinished && <Time at={run.wakeAt} />],
          ['Compensation', run.compensation === 'none' ? undefined : run.compensation],
          ['Recoveries', run.recoveries || undefined],
          ['Forked from', run.forkedFrom && <RunLink id={run.forkedFrom} />],
          ['Worker', run.workerId && <code>{run.workerId}</code>],
        ]}
      />
      <div class="buttons">
        {!isFinished && (
          <>
            <Button
              work={post('cancel', { reason: 'from the dashboard' })}
              confirm="Cancel this run and its descendants?"
              danger
            >
              Cancel
            </Button>
            {run.paused ? <Button work={post('resume')}>Resume</Button> : <Button work={post('pause')}>Pause</Button>}
          </>
        )}
        {['failed', 'cancelled', 'blocked'].includes(run.status) && <Button work={post('retry')}>Retry</Button>}
      </div>
      {!isFinished && <SignalForm id={id} />}
    </>
  );
}

function SignalForm({ id }: { id: string }) {
  const mayChange = useContext(MayChange);
  const { problem, isBusy, act } = useAction();
  const [name, setName] = useState('');
  const [payload, setPayload] = useState('');
  const field = useId();
  if (!mayChange) return null;
  const submit = (event: Event): void => {
    event.preventDefault();
    act(() => send('POST', path('runs', id, 'signal'), { name, ...(payload && { payload: parseValue(payload) }) }));
  };
  return (
    <details class="card">
      <summary>Send a signal</summary>
      <form onSubmit={submit}>
        <label for={`${field}-name`}>Name</label>
        <input id={`${field}-name`} value={name} onInput={(event) => setName(event.currentTarget.value)} required />
        <label for={`${field}-payload`}>Payload: JSON, or a text</label>
        <textarea
          id={`${field}-payload`}
          rows={3}
          value={payload}
          onInput={(event) => setPayload(event.currentTarget.value)}
        />
        <button type="submit" disabled={isBusy}>
          Send
        </button>
      </form>
      <Problem text={problem} />
    </details>
  );
}

function WaitingFor({ run }: { run: RunDetails }) {
  if (run.waitingFor.length === 0) return null;
  return (
    <section>
      <h2>Waits for</h2>
      <ul class="waits">
        {run.waitingFor.slice(0, FIRST).map(({ kind, name, until }) => (
          <li key={`${kind} ${name}`}>
            <span class="kind">{kind}</span> {name}
            {until && (
              <small>
                {' '}
                until <Time at={until} />
              </small>
            )}
          </li>
        ))}
      </ul>
      {run.waitingFor.some(({ kind }) => kind === 'input') && <RunInputs run={run} />}
    </section>
  );
}

function RunInputs({ run }: { run: RunDetails }) {
  const query = new URLSearchParams({ workflow: run.workflow, limit: '1000' });
  const { data } = useWatched<Page<PendingInput>>(`inputs?${query}`);
  const own = data?.items.filter(({ runId }) => runId === run.id) ?? [];
  return (
    <>
      {own.map((input) => (
        <AnswerForm key={input.name} input={input} />
      ))}
    </>
  );
}

function Payloads({ run }: { run: RunDetails }) {
  return (
    <section>
      <h2>Data</h2>
      <ErrorView error={run.error} label="Error" />
      <Json label="Output" value={run.output} />
      <Json label="Input" value={run.input} />
      <Json label="State" value={run.state} />
      {Object.keys(run.attributes).length > 0 && <Json label="Attributes" value={run.attributes} />}
      {run.heartbeats.map(({ step, attempt, progress, at }) => (
        <figure class="json" key={step}>
          <figcaption>
            Heartbeat of {step}, attempt {attempt}, <Time at={at} />
          </figcaption>
          <pre tabIndex={0}>{JSON.stringify(progress, null, 2)}</pre>
        </figure>
      ))}
    </section>
  );
}

function History({ id }: { id: string }) {
  const { data, problem } = useWatched<Entry[]>(path('runs', id, 'history'));
  const [isWhole, setWhole] = useState(false);
  const shown = isWhole ? data : data?.slice(-FIRST);
  return (
    <section>
      <h2>History</h2>
      <Problem text={problem} />
      {data?.length === 0 && <Empty>Nothing is recorded yet.</Empty>}
      {data && shown && shown.length < data.length && (
        <button type="button" onClick={() => setWhole(true)}>
          Show the {data.length - shown.length} before
        </button>
      )}
      <ol class="timeline">
        {shown?.map((entry) => (
          <EntryView key={entry.seq} entry={entry} />
        ))}
      </ol>
    </section>
  );
}

function EntryView({ entry }: { entry: Entry }) {
  const { kind, key, status, attempts, startedAt, finishedAt, childId, output, error, logs } = entry;
  const tookMs = Date.parse(finishedAt) - Date.parse(startedAt);
  const hasMore = output !== undefined || error !== undefined || logs.length > 0;
  const line = (
    <>
      <span class="kind">{kind}</span> <strong>{childId ? <RunLink id={childId}>{key}</RunLink> : key}</strong>{' '}
      {status !== 'completed' && <Status of={status} />}
      <small>
        {attempts > 1 && `${attempts} attempts, `}
        {durationOf(tookMs)}, <Time at={finishedAt} />
      </small>
    </>
  );
  return (
    <li class={status}>
      {hasMore ? (
        <details open={status === 'failed'}>
          <summary>{line}</summary>
          <ErrorView error={error} label="Error" />
          <Json label="Output" value={output} />
          {logs.length > 0 && (
            <ul class="logs" aria-label={`Log of ${key}`}>
              {logs.map(({ at, level, message, attempt }, index) => (
                <li key={index} class={level}>
                  <small>
                    <Time at={at} /> #{attempt} {level}
                  </small>{' '}
                  {message}
                </li>
              ))}
            </ul>
          )}
        </details>
      ) : (
        <div class="line">{line}</div>
      )}
    </li>
  );
}

function durationOf(ms: number): string {
  if (ms < 1_000) return `${ms} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`;
  if (ms < 3_600_000) return `${Math.round(ms / 60_000)} min`;
  return `${(ms / 3_600_000).toFixed(1)} h`;
}

function Family({ run }: { run: RunDetails }) {
  const { data, problem } = useWatched<Tree>(path('runs', run.rootId, 'tree'));
  return (
    <section>
      <h2>Family</h2>
      <Problem text={problem} />
      <ul class="tree">{data && <Member member={data} current={run.id} />}</ul>
    </section>
  );
}

function Member({ member, current }: { member: Tree; current: string }) {
  const { id, workflow, ref, status, children } = member;
  return (
    <li>
      <span class={id === current ? 'current' : undefined} aria-current={id === current ? 'true' : undefined}>
        <RunLink id={id}>{ref ?? workflow}</RunLink> <Status of={status} />
      </span>
      {children.length > 0 && (
        <ul>
          {children.slice(0, FIRST).map((child) => (
            <Member key={child.id} member={child} current={current} />
          ))}
          {children.length > FIRST && <li>and {children.length - FIRST} more</li>}
        </ul>
      )}
    </li>
  );
}
