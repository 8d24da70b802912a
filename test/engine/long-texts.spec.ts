import { LongTexts } from '../../lib/engine/long-texts.js';

const text = (letter: string, length: number) => letter.repeat(length);

describe('the long texts that were encoded last', () => {
  it('are found by the value and by the stored form, the short ones are not kept', () => {
    const texts = new LongTexts();
    const [long, short] = [text('a', 1_024), text('b', 1_023)];
    texts.add(long, JSON.stringify(long));
    texts.add(short, JSON.stringify(short));
    texts.add({ length: 5_000 }, text('c', 5_000));

    expect(texts.storedOf(text('a', 1_024))).toBe(JSON.stringify(long));
    expect(texts.valueOf(JSON.stringify(long))).toBe(long);
    expect([short, 1, undefined, text('d', 1_024)].map((value) => texts.storedOf(value))).toEqual(
      Array.from({ length: 4 }, () => undefined),
    );
    expect([JSON.stringify(short), text('c', 5_000), ''].map((stored) => texts.valueOf(stored))).toEqual(
      Array.from({ length: 3 }, () => undefined),
    );
  });

  it('are sixteen at most, and 8 Mi characters', () => {
    const texts = new LongTexts();
    const letters = Array.from({ length: 17 }, (_, index) => String.fromCharCode(97 + index));
    for (const letter of letters) texts.add(text(letter, 2_000), `"${text(letter, 2_000)}"`);
    const kept = letters.filter((letter) => texts.storedOf(text(letter, 2_000)) !== undefined);
    expect(kept).toEqual(letters.slice(1));

    const [first, second] = [text('y', 4_200_000), text('z', 4_200_000)];
    texts.add(first, `"${first}"`);
    expect(texts.storedOf(first)).toBe(`"${first}"`);
    expect(texts.storedOf(text('q', 2_000))).toBe(`"${text('q', 2_000)}"`);
    texts.add(second, `"${second}"`);
    expect([first, second].map((value) => texts.storedOf(value) !== undefined)).toEqual([false, true]);
    texts.add(text('x', 8_388_609), 'too long');
    expect(texts.storedOf(second)).toBeDefined();
  });
});
