import type { Logger } from '@nestjs/common';
import { type DiscoveryService, MetadataScanner } from '@nestjs/core';
import { closest } from 'fastest-levenshtein';
import type { Observable } from 'rxjs';
import { outside } from '../engine/caller-context.js';
import { RUN_EVENT_TYPES, type RunEvent } from '../engine/events.js';
import type { WorkflowRegistry } from '../engine/registry.js';
import { workflowOptionsOf } from './decorators.js';
import { type Listening, listeningsOf, typeOfEvent } from './on-run-event.js';

type Provider = ReturnType<DiscoveryService['getProviders']>[number];
type Method = (event: RunEvent) => unknown;

interface Listener extends Listening {
  provider: Provider;
  /** `Audit.failed`. */
  name: string;
  method: string;
}

/** The methods of an app's providers and controllers that listen to events (`@OnRunEvent`). */
export class RunListeners {
  private readonly listeners: Listener[];

  constructor(
    discovery: DiscoveryService,
    private readonly logger: Pick<Logger, 'error'>,
  ) {
    this.listeners = [...discovery.getProviders(), ...discovery.getControllers()].flatMap(listenersOf);
  }

  /** What is wrong with them, for the report at boot. */
  problems(): string[] {
    return this.listeners.flatMap((listener) =>
      problemsOf(listener).map((problem) => `${listener.name}: @OnRunEvent: ${problem}`),
    );
  }

  /** Needs the instances. One that is provided under several tokens hears each event once. */
  subscribe(events: Observable<RunEvent>, registry: WorkflowRegistry): void {
    const heard = new Map<unknown, Set<string>>();
    for (const { provider, name, method, event, options } of this.listeners) {
      const instance = provider.instance as Record<string, Method>;
      const methods = heard.get(instance) ?? new Set();
      if (methods.has(method + event)) continue;
      heard.set(instance, methods.add(method + event));
      const type = typeOfEvent(event);
      const { workflow } = options;
      // A class that this engine does not run has no events here.
      const only = typeof workflow === 'function' ? (registry.find(workflow)?.name ?? null) : workflow;
      events.subscribe((one) => {
        if (one.type === type && (only === undefined || one.workflow === only))
          this.call(name, one, () => instance[method]!(one));
      });
    }
  }

  /** Not in the place of the run that it is about: to the listener's code, it is over. */
  private call(name: string, event: RunEvent, listen: () => unknown): void {
    outside(async () => await listen()).catch((error: unknown) => {
      const reason = error instanceof Error ? (error.stack ?? error.message) : String(error);
      this.logger.error(`${name} failed on ${event.type} of run ${event.runId}: ${reason}`);
    });
  }
}

function listenersOf(provider: Provider): Listener[] {
  const prototype = prototypeOf(provider);
  if (!prototype) return [];
  return new MetadataScanner().getAllMethodNames(prototype).flatMap((method) =>
    listeningsOf(prototype, method).map((listening) => ({
      ...listening,
      provider,
      name: `${prototype.constructor.name}.${method}`,
      method,
    })),
  );
}

/** Of a value, or of what a factory gives, as well; null for what has none. */
function prototypeOf({ instance, metatype, isNotMetatype }: Provider): object | null {
  if (!isNotMetatype) return (metatype as { prototype?: object } | null)?.prototype ?? null;
  const value = instance as unknown;
  return typeof value === 'object' && value !== null ? (Object.getPrototypeOf(value) as object | null) : null;
}

function problemsOf({ provider, event, options }: Listener): string[] {
  const problems: string[] = [];
  if (!typeOfEvent(event)) {
    const hint = closest(event, [...RUN_EVENT_TYPES]);
    problems.push(`there are no events '${event}'; did you mean '${hint}'?`);
  }
  const unknown = Object.keys(options).filter((option) => option !== 'workflow');
  problems.push(...unknown.map((option) => `unknown option '${option}' (known: workflow)`));
  const { workflow } = options;
  if (typeof workflow === 'function' && !workflowOptionsOf(workflow))
    problems.push(`${workflow.name} has no @Workflow()`);
  if (workflow !== undefined && typeof workflow !== 'function' && typeof workflow !== 'string')
    problems.push('workflow must be a workflow class or a name');
  if (provider.isTransient || !provider.isDependencyTreeStatic())
    problems.push('its provider must be one instance for the whole app, neither transient nor request-scoped');
  return problems;
}
