import type { LogLine } from './run.js';
import type { PayloadSerializer } from './serialization.js';

const MAX_LINES = 100;
const MAX_CHARACTERS = 1_000;

/** A log line as it is stored. */
type StoredLine = Omit<LogLine, 'at'> & { at: number };

/** The last lines that the body of a step has logged in one attempt. */
export class StepLog {
  private readonly lines: StoredLine[] = [];
  private leftOut = 0;

  add(line: StoredLine): void {
    this.lines.push({ ...line, message: cut(line.message) });
    if (this.lines.length <= MAX_LINES) return;
    this.lines.shift();
    this.leftOut++;
  }

  /** Their stored form. A step does not fail for its log lines: what the database does not take is left out. */
  encode(serializer: PayloadSerializer): string | null {
    const [first] = this.lines;
    const omission = { ...first!, level: 'warn', message: `${this.leftOut} earlier lines were left out` } as const;
    try {
      return serializer.encode(this.leftOut ? [omission, ...this.lines] : this.lines, 'the log lines of a step');
    } catch {
      return null;
    }
  }
}

/** The lines of a stored form, to be shown: none where it cannot be read. */
export function logLinesOf(stored: string | null, serializer: PayloadSerializer): LogLine[] {
  const lines = serializer.show(stored);
  return Array.isArray(lines) ? (lines as StoredLine[]).map((line) => ({ ...line, at: new Date(line.at) })) : [];
}

function cut(text: string): string {
  return text.length <= MAX_CHARACTERS ? text : `${text.slice(0, MAX_CHARACTERS)}…`;
}
