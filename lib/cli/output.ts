import { styleText } from 'node:util';
import type { Page } from '../engine/run.js';
import { toJson } from './payload-text.js';

type Style = Parameters<typeof styleText>[0];

/** What a command has to say: data for scripts, or text for people, on stdout; remarks on stderr. */
export class Output {
  constructor(readonly isJson: boolean) {}

  /** How wide a line may be: as the terminal is. What is piped somewhere is not cut, unless COLUMNS says so. */
  get width(): number {
    return process.stdout.columns ?? (Number(process.env['COLUMNS']) || Infinity);
  }

  /** The outcome of a command: whole as JSON, or as the text that is made of it. */
  show(data: unknown, asText: () => string): void {
    process.stdout.write(`${this.isJson ? toJson(data) : asText()}\n`);
  }

  /** A page of a list, and how to get the next. */
  showPage<T>(page: Page<T>, asText: (items: readonly T[]) => string, ifEmpty: string): void {
    this.show(page, () => (page.items.length ? asText(page.items) : ifEmpty));
    if (page.nextCursor !== undefined && !this.isJson) this.remark(`There are more: --cursor ${page.nextCursor}`);
  }

  /** Beside the outcome, for people. */
  remark(text: string): void {
    process.stderr.write(`${harmless(text)}\n`);
  }
}

/** Colours, on a terminal only and never with NO_COLOR. */
export function styled(style: Style, text: string): string {
  return styleText(style, text, { stream: process.stdout });
}

/** What names and messages hold must not move the cursor of a terminal. Colours stay. */
export function harmless(text: string): string {
  // eslint-disable-next-line no-control-regex
  return text.replaceAll(/\x1b(?!\[\d+m)|[\x00-\x09\x0b-\x1a\x1c-\x1f\x7f-\x9f]/g, '\uFFFD');
}
