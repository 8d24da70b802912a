import { inspect } from 'node:util';
import { Logger } from '@nestjs/common';
import { currentFrame } from '../engine/branch.js';
import type { LogLine } from '../engine/run.js';

type Write = (this: { context?: string }, message: unknown, ...more: unknown[]) => void;
type Writer = Record<LogLine['level'], Write>;

const LEVELS = ['log', 'error', 'warn', 'debug', 'verbose', 'fatal'] as const satisfies LogLine['level'][];

let isObserved = false;
/** While a line is written: a logger that is built on Nest's own would write it once more. */
let isWriting = false;

/**
 * Keeps what the bodies of steps write through Nest's `Logger`, and passes it on as it is. It watches the `Logger` itself, once
 * in a process: what stands behind it (`app.useLogger`) is the app's affair, and may be replaced at any time.
 */
export function observeLogger(): void {
  if (isObserved) return;
  isObserved = true;
  for (const writer of [Logger.prototype, Logger] as unknown as Writer[]) {
    for (const level of LEVELS) writer[level] = observed(level, writer[level]);
  }
}

function observed(level: LogLine['level'], write: Write): Write {
  return function (message, ...more) {
    if (isWriting) return write.call(this, message, ...more);
    const attempt = currentFrame()?.attempt;
    isWriting = true;
    try {
      attempt?.log(toLine(level, this.context, [message, ...more]));
      write.call(this, message, ...more);
    } finally {
      isWriting = false;
    }
  };
}

/** As Nest reads the parameters: the last text is the context of a logger that has none. */
function toLine(level: LogLine['level'], own: string | undefined, words: unknown[]): Omit<LogLine, 'at' | 'attempt'> {
  const last = words.at(-1);
  const context = own ?? (words.length > 1 && typeof last === 'string' ? last : undefined);
  const said = own === undefined && context !== undefined ? words.slice(0, -1) : words;
  return {
    level,
    message: said
      .filter((word) => word !== undefined)
      .map(textOf)
      .join(' '),
    context,
  };
}

function textOf(word: unknown): string {
  return typeof word === 'string' ? word : inspect(word, { depth: 3, breakLength: Infinity });
}
