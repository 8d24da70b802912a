import type { Command } from './command.js';
import type { WaitingFor } from './run.js';

/** How many of its waits a parked run's row lists. */
const MAX_LISTED_WAITS = 100;

/** What a run with these open calls waits for, or undefined when one of them still runs here. */
export function waitsOf(calls: ReadonlySet<Command>): WaitingFor[] | undefined {
  if (calls.size === 0) return undefined;
  const waits: WaitingFor[] = [];
  for (const call of calls) {
    const standing = call.standing();
    if (standing === 'busy') return undefined;
    if (standing !== 'suspended') waits.push(standing);
  }
  return listed(waits);
}

/** Signals are listed all, each once: the list says whom a signal to a tree reaches. */
function listed(waits: WaitingFor[]): WaitingFor[] {
  if (waits.length <= MAX_LISTED_WAITS) return waits;
  const signals = new Map(waits.filter(({ kind }) => kind === 'signal').map((wait) => [wait.name, wait]));
  const others = waits.filter(({ kind }) => kind !== 'signal');
  return [...signals.values(), ...others.slice(0, Math.max(0, MAX_LISTED_WAITS - signals.size))];
}
