/** Amounts are integers in the currency's smallest unit; unit prices may have decimals of it. */

/** Stripe refuses amounts of more than eight digits. */
export const AMOUNT_MAX = 99_999_999;

const PLACES_MAX = 12;

/** `decimal` (text) times `quantity`, rounded half up to an integer, without floats. */
export function multiply(decimal: string, quantity: number): number {
  const [whole = '0', fraction = ''] = decimal.split('.');
  const scale = 10n ** BigInt(PLACES_MAX);
  const scaled = BigInt(whole) * scale + BigInt(fraction.padEnd(PLACES_MAX, '0'));
  return Number((scaled * BigInt(quantity) * 2n + scale) / (2n * scale));
}

/** `unit_amount` is null when the price has fractions of the smallest unit. */
export function wholeAmount(decimal: string): number | null {
  const [whole = '0', fraction = ''] = decimal.split('.');
  return /^0*$/.test(fraction) ? Number(whole) : null;
}

/** `05.500` and `5.5` are one price; Stripe answers the shortest spelling. */
export function shortestDecimal(decimal: string): string {
  const [whole = '0', fraction = ''] = decimal.split('.');
  const digits = fraction.replace(/0+$/, '');
  const head = whole.replace(/^0+(?=\d)/, '');
  return digits === '' ? head : `${head}.${digits}`;
}

/**
 * The smallest amount Stripe charges, by currency, where it is documented; 0 is always allowed (no
 * payment is made). Others have no minimum here.
 */
const CHARGE_MINIMUM: Readonly<Record<string, number>> = {
  usd: 50,
  aud: 50,
  brl: 50,
  cad: 50,
  chf: 50,
  eur: 50,
  gbp: 30,
  jpy: 50,
  dkk: 250,
  nok: 300,
  sek: 300,
  nzd: 50,
  sgd: 50,
  hkd: 400,
  mxn: 1_000,
  pln: 200,
};

export function chargeMinimum(currency: string): number {
  return CHARGE_MINIMUM[currency] ?? 0;
}

/** Making a formatter costs more than a hundred uses of it. */
const formatters = new Map<string, Intl.NumberFormat>();

/** For people, e.g. `$5.00` or `¥500`. */
export function formatAmount(amount: number, currency: string): string {
  let format = formatters.get(currency);
  if (!format) {
    format = new Intl.NumberFormat('en', { style: 'currency', currency: currency.toUpperCase() });
    formatters.set(currency, format);
  }
  const places = format.resolvedOptions().maximumFractionDigits ?? 2;
  return format.format(amount / 10 ** places);
}
