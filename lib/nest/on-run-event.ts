import { RUN_EVENT_TYPES, type RunEvent } from '../engine/events.js';
import type { WorkflowReference } from '../engine/definition.js';

const LISTENER = Symbol('orchestration:on-run-event');
const OF_RUNS = 'run.';

type RunEventOf<Type extends string> = Type extends `run.${infer Name}` ? Name : never;

/** A type of events; of those of runs also without `run.`: `'failed'` is `'run.failed'`. */
export type RunEventName = RunEvent['type'] | RunEventOf<RunEvent['type']>;

export interface OnRunEventOptions {
  /** Only events of runs of this workflow. Default: of all. */
  workflow?: WorkflowReference;
}

/** What a decorator on a method says. */
export interface Listening {
  event: string;
  options: OnRunEventOptions;
}

/**
 * Calls the method of a provider with each {@link RunEvent} of that type that this process brings about. What the method throws
 * is logged, and changes nothing for the run. An event is lost with its process: what must not be missed is a step's business.
 *
 * @example `@OnRunEvent('failed', { workflow: OrderWorkflow })`
 */
export function OnRunEvent(event: RunEventName, options: OnRunEventOptions = {}): MethodDecorator {
  return (prototype, method) => {
    const others = listeningsOf(prototype, method as string);
    Reflect.defineMetadata(LISTENER, [...others, { event, options }], prototype, method);
  };
}

export function listeningsOf(prototype: object, method: string): Listening[] {
  return (Reflect.getMetadata(LISTENER, prototype, method) ?? []) as Listening[];
}

/** The type of events that a name stands for; undefined: there is none. */
export function typeOfEvent(name: string): RunEvent['type'] | undefined {
  return RUN_EVENT_TYPES.find((type) => type === name || type === OF_RUNS + name);
}
