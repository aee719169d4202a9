import { BANK_ACCOUNTS, isCardNumber } from '../cards.ts';
import type { Purchase } from '../checkout.ts';
import type { FormObject } from '../form.ts';
import type { SessionView } from '../resources/checkoutView.ts';

/** What the page shows in its fields: first the suggestions, then what the buyer typed. */
export interface Fields {
  readonly email: string;
  readonly method: Purchase['method'];
  readonly card_number: string;
  readonly expiry: string;
  readonly cvc: string;
  readonly name: string;
  readonly country: string;
  readonly bank_account: string;
  readonly promotion_code: string;
  /** As typed, by line item id. */
  readonly quantities: Readonly<Record<string, string>>;
}
export type FieldName = Exclude<keyof Fields, 'quantities'>;
export type Mistakes = Partial<Record<FieldName, string>>;

/** Countries offered for the billing address. */
export const COUNTRIES: readonly (readonly [code: string, name: string])[] = [
  ['US', 'United States'],
  ['GB', 'United Kingdom'],
  ['DE', 'Germany'],
  ['FR', 'France'],
  ['AT', 'Austria'],
  ['CH', 'Switzerland'],
  ['CA', 'Canada'],
  ['AU', 'Australia'],
  ['JP', 'Japan'],
];

/** Years a suggested card is still valid for. */
const SUGGESTED_YEARS = 4;

export function suggestedFields(session: SessionView, nowMs: number): Fields {
  const year = new Date(nowMs).getUTCFullYear() + SUGGESTED_YEARS;
  return {
    email: session.customer_details?.email ?? '',
    method: session.payment_method_types[0] === 'us_bank_account' ? 'us_bank_account' : 'card',
    card_number: '4242 4242 4242 4242',
    expiry: `12 / ${String(year).slice(-2)}`,
    cvc: '123',
    name: 'Sandbox Buyer',
    country: 'US',
    bank_account: '000123456789',
    promotion_code: '',
    quantities: {},
  };
}

export function readFields(form: FormObject, session: SessionView, nowMs: number): Fields {
  const suggested = suggestedFields(session, nowMs);
  const typed = (name: FieldName) => {
    const value = form[name];
    return typeof value === 'string' ? value.trim().slice(0, 512) : suggested[name];
  };
  const quantities = form.quantity;
  return {
    email: typed('email'),
    method: typed('method') === 'us_bank_account' ? 'us_bank_account' : 'card',
    card_number: typed('card_number'),
    expiry: typed('expiry'),
    cvc: typed('cvc'),
    name: typed('name'),
    country: typed('country'),
    bank_account: typed('bank_account'),
    promotion_code: typed('promotion_code'),
    quantities:
      typeof quantities === 'object'
        ? Object.fromEntries(
            Object.entries(quantities).filter(
              (entry): entry is [string, string] => typeof entry[1] === 'string',
            ),
          )
        : {},
  };
}

/** What the buyer has to mend before anything is charged. */
export function findMistakes(fields: Fields, asks: boolean, nowMs: number): Mistakes {
  const mistakes: Mistakes = {};
  if (!/^[^\s@]+@[^\s@]+\.[^\s@]+$/.test(fields.email)) {
    mistakes.email = 'Enter an e-mail address, for example ada@example.com.';
  }
  if (!asks) return mistakes;
  if (fields.name === '') mistakes.name = 'Enter the name of the account holder.';
  if (!COUNTRIES.some(([code]) => code === fields.country)) mistakes.country = 'Choose a country.';
  if (fields.method === 'us_bank_account') {
    if (!Object.hasOwn(BANK_ACCOUNTS, fields.bank_account)) {
      mistakes.bank_account = 'Choose one of the test accounts.';
    }
    return mistakes;
  }
  if (!isCardNumber(digitsOf(fields.card_number))) {
    mistakes.card_number = 'Your card number is invalid.';
  }
  const expiry = readExpiry(fields.expiry);
  if (!expiry) mistakes.expiry = 'Enter the expiry as month / year, for example 12 / 34.';
  else if (isPast(expiry, nowMs)) mistakes.expiry = 'Your card has expired: check month and year.';
  if (!/^\d{3,4}$/.test(fields.cvc)) mistakes.cvc = 'Enter the 3 or 4 digits of the code.';
  return mistakes;
}

/** Only valid fields come here. */
export function toPurchase(fields: Fields): Purchase {
  const expiry = readExpiry(fields.expiry);
  const quantities = Object.entries(fields.quantities).map(([id, typed]) => [id, Number(typed)]);
  return {
    method: fields.method,
    cardNumber: digitsOf(fields.card_number),
    bankAccount: fields.bank_account,
    email: fields.email,
    name: fields.name,
    country: fields.country,
    promotionCode: fields.promotion_code,
    quantities: Object.fromEntries(quantities) as Record<string, number>,
    ...(expiry ? { expMonth: expiry.month, expYear: expiry.year } : {}),
  };
}

function digitsOf(typed: string): string {
  return typed.replace(/[\s-]/g, '');
}

function readExpiry(typed: string): { month: number; year: number } | null {
  const found = /^(\d{1,2})\s*\/\s*(?:20)?(\d{2})$/.exec(typed);
  const month = Number(found?.[1]);
  return found && month >= 1 && month <= 12 ? { month, year: 2_000 + Number(found[2]) } : null;
}

/** A card is good until the end of its month. */
function isPast(expiry: { month: number; year: number }, nowMs: number): boolean {
  return Date.UTC(expiry.year, expiry.month, 1) <= nowMs;
}
