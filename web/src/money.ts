/** Money for people: exact sums, honest comparisons, the reader's own number format. */
import type { Pack } from './api.ts';

// Stripe's smallest unit differs from ISO 4217 for some currencies (ISK and UGX are sent with two
// decimals, MGA with none), so the exponent comes from Stripe's lists, not from Intl.
// https://docs.stripe.com/currencies
const ZERO_DECIMAL = new Set(
  'BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF'.split(' '),
);
const THREE_DECIMAL = new Set('BHD JOD KWD OMR TND'.split(' '));

function exponent(currency: string): number {
  const code = currency.toUpperCase();
  if (ZERO_DECIMAL.has(code)) return 0;
  return THREE_DECIMAL.has(code) ? 3 : 2;
}

function currencyFormat(currency: string, options: Intl.NumberFormatOptions) {
  return new Intl.NumberFormat(undefined, { style: 'currency', currency, ...options });
}

/** Decimals people expect for the currency, never more than Stripe can charge. */
function displayDecimals(currency: string): number {
  const usual = currencyFormat(currency, {}).resolvedOptions().maximumFractionDigits ?? 2;
  return Math.min(usual, exponent(currency));
}

/** `amount` in the smallest unit of Stripe's currency. */
export function formatMoney(amount: number, currency: string): string {
  const decimals = displayDecimals(currency);
  const format = currencyFormat(currency, {
    minimumFractionDigits: decimals,
    maximumFractionDigits: decimals,
  });
  return format.format(amount / 10 ** exponent(currency));
}

/** Price of one credit: up to two decimals more than the currency has, or two digits if tiny. */
export function formatPerCredit(pack: Pick<Pack, 'unit_amount' | 'credits' | 'currency'>): string {
  const decimals = displayDecimals(pack.currency);
  const value = pack.unit_amount / pack.credits / 10 ** exponent(pack.currency);
  const tiny = value > 0 && value < 10 ** -(decimals + 1);
  const options: Intl.NumberFormatOptions = tiny
    ? { maximumSignificantDigits: 2 }
    : { minimumFractionDigits: decimals, maximumFractionDigits: decimals + 2 };
  return currencyFormat(pack.currency, options).format(value);
}

/** Negative figures get a true minus sign, which screen readers name. */
export function formatCredits(credits: number): string {
  const figure = new Intl.NumberFormat().format(Math.abs(credits));
  return credits < 0 ? `\u2212${figure}` : figure;
}

/** `percent` as a whole number: 10 is "10%". */
export function formatPercent(percent: number): string {
  return new Intl.NumberFormat(undefined, { style: 'percent' }).format(percent / 100);
}

/** "1 credit", "50 credits". */
export function creditsPhrase(credits: number): string {
  return `${formatCredits(credits)} ${Math.abs(credits) === 1 ? 'credit' : 'credits'}`;
}

/** "+50", "−5". */
export function formatSigned(amount: number): string {
  return amount > 0 ? `+${formatCredits(amount)}` : formatCredits(amount);
}

/** Compares prices per credit without dividing, so that equal prices are equal. */
function comparePerCredit(a: Pack, b: Pack): number {
  const difference =
    BigInt(a.unit_amount) * BigInt(b.credits) - BigInt(b.unit_amount) * BigInt(a.credits);
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}

/** The pack with the fewest credits; of two such, the cheaper. All savings compare with it. */
export function smallestPack(packs: Pack[]): Pack | null {
  const sorted = [...packs].sort((a, b) => a.credits - b.credits || a.unit_amount - b.unit_amount);
  return sorted[0] ?? null;
}

/**
 * Whole percent a credit costs less than in `base`, rounded down so that it never promises too
 * much; 0 when it saves less than 1 % or the currencies differ.
 */
export function savingPercent(pack: Pack, base: Pack): number {
  if (pack.currency !== base.currency || base.unit_amount <= 0) return 0;
  const full = BigInt(pack.credits) * BigInt(base.unit_amount);
  const paid = BigInt(pack.unit_amount) * BigInt(base.credits);
  return paid >= full ? 0 : Number(((full - paid) * 100n) / full);
}

/** The one pack whose credit is cheapest; null when there is a tie or nothing to compare. */
export function bestValuePack(packs: Pack[]): Pack | null {
  const [best, second] = [...packs].sort(comparePerCredit);
  if (!best || !second || packs.some((pack) => pack.currency !== best.currency)) return null;
  return comparePerCredit(best, second) < 0 ? best : null;
}
