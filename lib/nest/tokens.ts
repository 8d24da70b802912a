import type { InjectionToken } from '@nestjs/common';

const HOST = 'EngineHost:';

/** Of an engine's own provider; from outside, nobody asks for it. */
export function hostToken(name?: string): string {
  return HOST + (name ?? '');
}

/** Of what follows the runs of an engine; provided only where an app asks for it. */
export function telemetryToken(name?: string): string {
  return `Telemetry:${name ?? ''}`;
}

/** The name of the engine whose provider has this token, and '' for the one without; undefined for other tokens. */
export function engineNameOf(token: InjectionToken | undefined): string | undefined {
  return typeof token === 'string' && token.startsWith(HOST) ? token.slice(HOST.length) : undefined;
}
