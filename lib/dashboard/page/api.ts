/** The address of the API, from where this script was loaded: whatever prefix a proxy has put before it. */
const API = new URL('../api/', import.meta.url);

export interface Waiting {
  kind: string;
  name: string;
  until: string | null;
}

export interface StoredError {
  name: string;
  message: string;
  code?: string | number;
  stack?: string;
  cause?: StoredError;
}

export interface Run {
  id: string;
  workflow: string;
  version: number;
  status: string;
  paused: boolean;
  key?: string;
  queue: string;
  priority: number;
  tenant?: string;
  label?: string;
  attributes: Record<string, unknown>;
  state?: unknown;
  parentId?: string;
  rootId: string;
  forkedFrom?: string;
  createdAt: string;
  startedAt?: string;
  finishedAt?: string;
  wakeAt?: string;
  waitingFor: Waiting[];
  compensation: string;
  recoveries: number;
  workerId?: string;
}

export interface RunDetails extends Run {
  input?: unknown;
  output?: unknown;
  error?: StoredError;
  heartbeats: { step: string; attempt: number; progress?: unknown; at: string }[];
}

export interface Entry {
  seq: number;
  kind: string;
  name: string;
  key: string;
  status: string;
  output?: unknown;
  error?: StoredError;
  attempts: number;
  startedAt: string;
  finishedAt: string;
  childId?: string;
  logs: { at: string; level: string; message: string; context?: string; attempt: number }[];
}

export interface Tree {
  id: string;
  workflow: string;
  ref?: string;
  label?: string;
  status: string;
  children: Tree[];
}

export interface PendingInput {
  runId: string;
  workflow: string;
  name: string;
  type: 'approval' | 'choice' | 'text' | 'form';
  prompt?: string;
  choices?: string[];
  expiresAt?: string;
}

export interface Rate {
  limit: number;
  per: number | string;
}

export interface Queue {
  name: string;
  paused: boolean;
  limits: Record<string, number | Rate>;
  pending: number;
  running: number;
  oldestDueAt: string | null;
}

export interface Schedule {
  id: string;
  workflow: string;
  cron?: string;
  every?: number;
  timeZone: string;
  overlap: string;
  paused: boolean;
  declared: boolean;
  lastRunAt?: string;
  lastRunId?: string;
  nextRunAt?: string;
}

export interface Worker {
  id: string;
  host: string;
  pid: number;
  startedAt: string;
  heartbeatAt: string;
  alive: boolean;
  queues: string[];
  workflows: string[];
  running: number;
}

export interface Stats {
  runs: Record<string, number>;
  oldestDueAt?: string;
}

export interface Page<Item> {
  items: Item[];
  nextCursor?: string;
}

/** A request that was refused, with the reason for the one who made it. */
class Refused extends Error {}

export async function ask<Answer>(place: string): Promise<Answer> {
  return (await send('GET', place)) as Answer;
}

export async function send(method: string, place: string, body?: unknown): Promise<unknown> {
  const response = await fetch(new URL(place, API), {
    method,
    ...(body !== undefined && { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
  });
  const text = await response.text();
  if (!response.ok) throw new Refused(reasonOf(response, text));
  return text === '' ? undefined : JSON.parse(text);
}

function reasonOf(response: Response, text: string): string {
  try {
    const { message } = JSON.parse(text) as { message?: unknown };
    if (typeof message === 'string') return message;
  } catch {
    // An answer of a proxy, or of nobody.
  }
  return `The server answered ${response.status} ${response.statusText}`;
}

export function path(...segments: string[]): string {
  return segments.map(encodeURIComponent).join('/');
}

/** Tells of what happens in the process that answers. What others do shows at the next look. */
export function listen(onChange: () => void, onState: (isLive: boolean) => void): () => void {
  const source = new EventSource(new URL('events', API));
  source.addEventListener('changes', onChange);
  source.addEventListener('open', () => {
    onState(true);
    onChange();
  });
  source.addEventListener('error', () => onState(false));
  return () => source.close();
}
