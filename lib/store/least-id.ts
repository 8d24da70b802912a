import { v7 as uuid } from 'uuid';

/** The least id that can have been made at that time, in epoch ms: ids are in the order of the times of the hosts that made them. */
export function leastIdAt(msecs: number): string {
  return uuid({ msecs: Math.max(0, msecs), random: new Uint8Array(16), seq: 0 });
}
