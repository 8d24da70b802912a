/** From so many characters on, encoding a text takes longer than looking whether it is one that was encoded just now. */
const LONG = 1_024;
const MOST = { texts: 16, characters: 8_388_608 };

/**
 * The long texts that were encoded last, with their stored forms. What a step returns is mostly given to the code in the same moment,
 * returned by that as well, and soon to whoever waits for the run; and a text cannot change meanwhile.
 */
export class LongTexts {
  private readonly kept: { value: string; stored: string }[] = [];
  private characters = 0;

  /** Keeps it, if it is worth that. */
  add(value: unknown, stored: string): void {
    if (typeof value !== 'string' || value.length < LONG || value.length > MOST.characters) return;
    this.kept.push({ value, stored });
    this.characters += value.length;
    while (this.kept.length > MOST.texts || this.characters > MOST.characters)
      this.characters -= this.kept.shift()!.value.length;
  }

  storedOf(value: unknown): string | undefined {
    if (typeof value !== 'string' || value.length < LONG) return undefined;
    return this.kept.findLast((text) => text.value === value)?.stored;
  }

  valueOf(stored: string): string | undefined {
    if (stored.length < LONG) return undefined;
    return this.kept.findLast((text) => text.stored === stored)?.value;
  }
}
