import type { InjectionToken } from '@nestjs/common';
import { Orchestrator } from '../engine/orchestrator.js';

/** Under which token the Orchestrator of a module is injected: the class itself for the module without a name. */
export function orchestratorToken(name?: string): InjectionToken {
  return name === undefined ? Orchestrator : `Orchestrator:${name}`;
}
