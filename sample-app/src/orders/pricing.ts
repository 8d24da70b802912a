export const CURRENCIES = ['EUR', 'USD', 'GBP', 'CHF', 'NOK', 'JPY'] as const;

export type Currency = (typeof CURRENCIES)[number];

/** An amount in the smallest unit of its currency. */
export interface Money {
  amount: number;
  currency: Currency;
}

/** What one euro is, in the smallest unit of the currency. */
const PER_EURO: Record<Currency, number> = { EUR: 100, USD: 108, GBP: 85, CHF: 95, NOK: 1_140, JPY: 162 };

export function fromEuroCents(cents: number, currency: Currency): Money {
  return { amount: Math.round((cents * PER_EURO[currency]) / 100), currency };
}

/** As people write it: `€ 12.50`, `¥ 2,025`. */
export function formatMoney({ amount, currency }: Money): string {
  const format = new Intl.NumberFormat('en', { style: 'currency', currency });
  return format.format(amount / 10 ** (format.resolvedOptions().maximumFractionDigits ?? 2));
}
