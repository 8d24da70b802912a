import type { Measurement } from './statements.js';

const CONTROL = /^(begin|start transaction|commit|rollback|savepoint|set )/i;

/** Statements but for transaction control. */
export function statementsOf({ byQuery }: Pick<Measurement, 'byQuery'>): number {
  return [...byQuery].reduce((sum, [text, count]) => sum + (CONTROL.test(text) ? 0 : count), 0);
}

/** For the message of a test that fails: which statements were sent, by their first words. */
export function sentBy({ byQuery }: Measurement): string[] {
  return [...byQuery].map(([text, count]) => `${count} × ${text.trim().replaceAll(/\s+/g, ' ').slice(0, 80)}`);
}

export function expectWithin(measured: Measurement, budget: { commits: number; statements?: number }): void {
  const { commits, statements = Infinity } = budget;
  const isWithin = measured.commits <= commits && statementsOf(measured) <= statements;
  expect({ isWithin, commits: measured.commits, sent: isWithin ? [] : sentBy(measured) }).toMatchObject({
    isWithin: true,
    sent: [],
  });
}
