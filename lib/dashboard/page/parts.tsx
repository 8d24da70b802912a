import type { ComponentChildren } from 'preact';
import { createContext } from 'preact';
import { useContext, useId, useState } from 'preact/hooks';
import { path, type PendingInput, send, type StoredError } from './api.js';
import { lookAgain } from './watch.js';

/** Whether the one who looks may change anything: else there are no buttons. */
export const MayChange = createContext(false);

export function Status({ of, paused = false }: { of: string; paused?: boolean }) {
  return (
    <>
      <span class={`status ${of}`}>{of}</span>
      {paused && <span class="status paused">paused</span>}
    </>
  );
}

export function Time({ at }: { at: string | null | undefined }) {
  if (!at) return <>–</>;
  const date = new Date(at);
  return (
    <time dateTime={at} title={date.toISOString()}>
      {date.toLocaleString(undefined, { dateStyle: 'short', timeStyle: 'medium' })}
    </time>
  );
}

export function RunLink({ id, children }: { id: string; children?: ComponentChildren }) {
  return (
    <a href={`#/runs/${encodeURIComponent(id)}`} class={children === undefined ? 'id' : undefined}>
      {children ?? id}
    </a>
  );
}

export function Problem({ text }: { text: string | undefined }) {
  return text === undefined ? null : (
    <p class="problem" role="alert">
      {text}
    </p>
  );
}

export function Empty({ children }: { children: ComponentChildren }) {
  return <p class="empty">{children}</p>;
}

export function Json({ value, label }: { value: unknown; label: string }) {
  if (value === undefined) return null;
  return (
    <figure class="json">
      <figcaption>{label}</figcaption>
      <pre tabIndex={0}>{typeof value === 'string' ? value : JSON.stringify(value, null, 2)}</pre>
    </figure>
  );
}

export function ErrorView({ error, label }: { error: StoredError | undefined; label: string }) {
  if (!error) return null;
  const { name, message, code, stack, cause } = error;
  return (
    <figure class="json error">
      <figcaption>{label}</figcaption>
      <p>
        <strong>{name}</strong>
        {code !== undefined && <code>{code}</code>} {message}
      </p>
      {stack !== undefined && (
        <details>
          <summary>Stack</summary>
          <pre tabIndex={0}>{stack}</pre>
        </details>
      )}
      <ErrorView error={cause} label="caused by" />
    </figure>
  );
}

export function Facts({ of }: { of: [string, ComponentChildren][] }) {
  const known = of.filter(([, value]) => value !== undefined && value !== null && value !== '');
  return (
    <dl class="facts">
      {known.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

interface Column<Row> {
  title: string;
  of: (row: Row) => ComponentChildren;
}

export function Table<Row>(props: { label: string; rows: Row[]; keyOf: (row: Row) => string; columns: Column<Row>[] }) {
  const { label, rows, keyOf, columns } = props;
  return (
    <table aria-label={label}>
      <thead>
        <tr>
          {columns.map(({ title }) => (
            <th scope="col" key={title}>
              {title}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {rows.map((row) => (
          <tr key={keyOf(row)}>
            {columns.map(({ title, of }) => (
              <td key={title} data-title={title}>
                {of(row)}
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** Does something, says why it was refused, and lets the page look again. */
export function useAction(): {
  problem: string | undefined;
  isBusy: boolean;
  act: (work: () => Promise<unknown>) => void;
} {
  const [problem, setProblem] = useState<string>();
  const [isBusy, setBusy] = useState(false);
  const act = (work: () => Promise<unknown>): void => {
    setBusy(true);
    setProblem(undefined);
    work()
      .then(lookAgain, (error: unknown) => setProblem((error as Error).message))
      .finally(() => setBusy(false));
  };
  return { problem, isBusy, act };
}

interface ButtonProps {
  work: () => Promise<unknown>;
  /** Asked before. */
  confirm?: string;
  danger?: boolean;
  children: ComponentChildren;
}

export function Button({ work, confirm, danger = false, children }: ButtonProps) {
  const mayChange = useContext(MayChange);
  const { problem, isBusy, act } = useAction();
  if (!mayChange) return null;
  return (
    <span class="action">
      <button
        type="button"
        class={danger ? 'danger' : undefined}
        disabled={isBusy}
        onClick={() => (confirm === undefined || window.confirm(confirm)) && act(work)}
      >
        {children}
      </button>
      <Problem text={problem} />
    </span>
  );
}

/** A text that is JSON, or else is meant as it is written. */
export function parseValue(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

export function AnswerForm({ input }: { input: PendingInput }) {
  const mayChange = useContext(MayChange);
  const { problem, isBusy, act } = useAction();
  const [text, setText] = useState('');
  const [isJsonWrong, setJsonWrong] = useState(false);
  const field = useId();
  const answer = (value: unknown) =>
    act(() => send('POST', path('runs', input.runId, 'inputs', input.name), { value }));
  const submit = (event: Event): void => {
    event.preventDefault();
    if (input.type === 'text') return answer(text);
    try {
      const value: unknown = JSON.parse(text);
      setJsonWrong(false);
      answer(value);
    } catch {
      setJsonWrong(true);
    }
  };
  const choices: [string, unknown][] =
    input.type === 'approval'
      ? [
          ['Approve', true],
          ['Reject', false],
        ]
      : (input.choices ?? []).map((choice) => [choice, choice]);
  return (
    <div class="card">
      <h3>
        {input.name} <small>{input.workflow}</small>
      </h3>
      {input.prompt && <p>{input.prompt}</p>}
      <p class="quiet">
        Run <RunLink id={input.runId} />
        {input.expiresAt && (
          <>
            , until <Time at={input.expiresAt} />
          </>
        )}
      </p>
      {mayChange &&
        (input.type === 'approval' || input.type === 'choice' ? (
          <div class="buttons" role="group" aria-label={`Answer ${input.name}`}>
            {choices.map(([label, value]) => (
              <button type="button" key={label} disabled={isBusy} onClick={() => answer(value)}>
                {label}
              </button>
            ))}
          </div>
        ) : (
          <form onSubmit={submit}>
            <label for={field}>{input.type === 'text' ? 'Answer' : 'Answer, as JSON'}</label>
            <textarea
              id={field}
              rows={3}
              value={text}
              onInput={(event) => setText(event.currentTarget.value)}
              required
            />
            <button type="submit" disabled={isBusy}>
              Send
            </button>
          </form>
        ))}
      <Problem text={isJsonWrong ? 'That is no JSON.' : problem} />
    </div>
  );
}
