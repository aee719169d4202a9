/** Foreign text, figures and addresses as they may stand in a mail. */

/** Line breaks would add headers, the others hide or reorder what is read. */
const UNSEEN = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u061C\u200E\u200F\u202A-\u202E\u2066-\u2069]+/gu;

/** One line of visible text, cut to a length. */
export function oneLine(text: string, lengthMax: number): string {
  const line = text.toWellFormed().replace(UNSEEN, ' ').replace(/ {2,}/g, ' ').trim();
  return [...line].length > lengthMax ? `${[...line].slice(0, lengthMax - 1).join('')}…` : line;
}

/** An address a mail may lead to; null for everything else, `javascript:` and the like. */
export function webAddress(text: string | null): string | null {
  if (text === null || text.length > 2_000 || !URL.canParse(text)) return null;
  const url = new URL(text);
  const web = url.protocol === 'https:' || url.protocol === 'http:';
  return web && url.username === '' && url.password === '' ? url.href : null;
}

/**
 * A single address as mail servers take it; null for lists, names and whatever could be read as a
 * second one. Whether it exists, its server says.
 */
export function mailAddress(text: string): string | null {
  const address = text.trim();
  const valid = /^[^\s@<>()[\]\\,;:"\p{Cc}\p{Cs}]{1,64}@[^\s@<>()[\]\\,;:"/\p{Cc}\p{Cs}]{1,255}$/u;
  return valid.test(address) ? address : null;
}

/** `Example <billing@example.com>` or `billing@example.com`. */
export function senderOf(from: string): { name: string | null; address: string } {
  const named = /^\s*(.*?)\s*<([^<>]+)>\s*$/.exec(from);
  if (named === null) return { name: null, address: from.trim() };
  const name = oneLine((named[1] ?? '').replace(/^"(.*)"$/, '$1'), 100);
  return { name: name === '' ? null : name, address: (named[2] ?? '').trim() };
}

// Stripe's smallest unit differs from ISO 4217 for some currencies, so the exponent comes from
// Stripe's lists, not from Intl. https://docs.stripe.com/currencies
const ZERO_DECIMAL = new Set(
  'BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF'.split(' '),
);
const THREE_DECIMAL = new Set('BHD JOD KWD OMR TND'.split(' '));

/** `amount` in the smallest unit; null where either is not known or the currency is none. */
export function money(amount: number | null, currency: string | null): string | null {
  if (amount === null || currency === null || !/^[a-z]{3}$/i.test(currency)) return null;
  const code = currency.toUpperCase();
  const decimals = ZERO_DECIMAL.has(code) ? 0 : THREE_DECIMAL.has(code) ? 3 : 2;
  return new Intl.NumberFormat('en-US', {
    style: 'currency',
    currency: code,
    minimumFractionDigits: decimals,
    maximumFractionDigits: decimals,
  }).format(amount / 10 ** decimals);
}

export function figure(count: number): string {
  return new Intl.NumberFormat('en-US').format(count);
}

export function creditsText(count: number): string {
  return `${figure(count)} ${count === 1 ? 'credit' : 'credits'}`;
}

/** A day in UTC, as Stripe's own invoices write it. */
export function day(instant: string): string {
  return new Intl.DateTimeFormat('en-US', { dateStyle: 'long', timeZone: 'UTC' }).format(
    new Date(instant),
  );
}
