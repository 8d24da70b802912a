import type { HistoryEntry } from 'nestjs-orchestration';

import { paint } from './paint.js';

const WORDS: Partial<Record<HistoryEntry['kind'], string>> = { compensation: 'undo' };

/** What a run has done, one line each; what undoes something bears its name. */
export function drawHistory(history: HistoryEntry[]): string[] {
  return history.map(({ kind, name, status }) => {
    const word = (WORDS[kind] ?? kind).padEnd(7);
    return `  ${paint(kind === 'compensation' ? 'yellow' : 'blue', word)} ${name.padEnd(24)} ${status}`;
  });
}
