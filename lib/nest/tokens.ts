import type { InjectionToken } from '@nestjs/common';

const HOST = 'EngineHost:';

/** Of an engine's own provider; from outside, nobody asks for it. */
export function hostToken(name?: string): string {
  return HOST + (name ?? '');
}

/** The name of the engine whose provider has this token, and '' for the one without; undefined for other tokens. */
export function engineNameOf(token: InjectionToken | undefined): string | undefined {
  return typeof token === 'string' && token.startsWith(HOST) ? token.slice(HOST.length) : undefined;
}
