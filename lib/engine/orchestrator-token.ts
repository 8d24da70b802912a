import { Orchestrator } from './orchestrator.js';

/** Under which token the Orchestrator of a module is injected: the class itself for the module without a name. */
export function orchestratorToken(name?: string): typeof Orchestrator | string {
  return name === undefined ? Orchestrator : `Orchestrator:${name}`;
}
