import type { InjectionToken } from '@nestjs/common';
import { Orchestrator } from '../engine/orchestrator.js';

/** Under which token the Orchestrator of a module is injected: the class itself for the module without a name. */
export function orchestratorToken(name?: string): InjectionToken {
  return name === undefined ? Orchestrator : `Orchestrator:${name}`;
}

const HOST = 'EngineHost:';

/** Of an engine's own provider; from outside, nobody asks for it. */
export function hostToken(name?: string): string {
  return HOST + (name ?? '');
}

/** The name of the engine whose provider has this token, and '' for the one without; undefined for other tokens. */
export function engineNameOf(token: InjectionToken | undefined): string | undefined {
  return typeof token === 'string' && token.startsWith(HOST) ? token.slice(HOST.length) : undefined;
}
