/**
 * One reader for each field that Stripe's API has moved, for payloads and answers alike. The shape
 * of a webhook is decided by the API version of its endpoint, that of a replayed event by the
 * version it was made in, that of an answer by the SDK: all of them come through here. A reader
 * takes whatever it is given, an object expanded or as its id, and never throws: null means that
 * the field says nothing. The table of both shapes is in docs/stripe-shapes.md.
 */

/** Seconds since 1970, as Stripe writes them. */
export interface StripePeriod {
  start: number;
  end: number;
}

type Fields = Readonly<Record<string, unknown>>;

/** The value at the end of a path of members, or undefined where the path breaks off. */
export function readMember(value: unknown, ...path: string[]): unknown {
  return path.reduce<unknown>(
    (inside, name) => (isFields(inside) && Object.hasOwn(inside, name) ? inside[name] : undefined),
    value,
  );
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null;
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

/** A list as Stripe pages it, `{data: [...]}`; only what this page shows. */
function pageOf(value: unknown): unknown[] {
  return listOf(readMember(value, 'data'));
}

/** The id of a reference, which is a string, the expanded object, a deleted object, or null. */
export function readId(reference: unknown): string | null {
  return textOf(reference) ?? textOf(readMember(reference, 'id'));
}

/** A whole number within what JSON and SQL agree on; strings of digits count, fractions do not. */
export function readAmount(value: unknown): number | null {
  const amount = typeof value === 'string' && /^-?\d{1,16}$/.test(value) ? Number(value) : value;
  return typeof amount === 'number' && Number.isSafeInteger(amount) ? amount : null;
}

/**
 * A decimal as its text. Since SDK 21 answers carry `Stripe.Decimal` objects, webhooks carry
 * strings, and very old versions numbers.
 */
export function readDecimal(value: unknown): string | null {
  const text =
    typeof value === 'string' || typeof value === 'number'
      ? String(value)
      : typeof value === 'object' && value !== null && !Array.isArray(value)
        ? decimalText(value)
        : '';
  return /^-?\d+(\.\d+)?$/.test(text) ? text : null;
}

function decimalText(value: object): string {
  // A payload may carry a member of that name; a plain object has only the inherited one.
  const write: unknown = (value as { toString?: unknown }).toString;
  return typeof write === 'function' && write !== Object.prototype.toString
    ? String(write.call(value))
    : '';
}

/** Metadata without anything that is not text; empty where there is none. */
export function readMetadata(object: unknown): Readonly<Record<string, string>> {
  return textsOf(readMember(object, 'metadata'));
}

function textsOf(value: unknown): Readonly<Record<string, string>> {
  if (!isFields(value)) return {};
  return Object.fromEntries(
    Object.entries(value).filter((entry): entry is [string, string] => {
      const [, text] = entry;
      return typeof text === 'string';
    }),
  );
}

/** One of `known`, or null: values Stripe adds later must not be mistaken for any of them. */
export function readChoice<const T extends string>(value: unknown, known: readonly T[]): T | null {
  return known.find((word) => word === value) ?? null;
}

/** Whose an object is; a customer is itself. */
export function readCustomer(object: unknown): string | null {
  return readMember(object, 'object') === 'customer'
    ? readId(object)
    : readId(readMember(object, 'customer'));
}

// Invoices -----------------------------------------------------------------------------------

export function readInvoiceSubscription(invoice: unknown): string | null {
  return (
    readId(readMember(invoice, 'parent', 'subscription_details', 'subscription')) ??
    readId(readMember(invoice, 'subscription'))
  );
}

/** The subscription's metadata as it was when the invoice was made. */
export function readInvoiceSubscriptionMetadata(
  invoice: unknown,
): Readonly<Record<string, string>> {
  const now = readMember(invoice, 'parent', 'subscription_details', 'metadata');
  return textsOf(isFields(now) ? now : readMember(invoice, 'subscription_details', 'metadata'));
}

/**
 * What the payload says an invoice was paid with: the intents, or the charge where there is none.
 * Since basil nothing, unless `payments` was expanded; ask for its invoice payments then.
 */
export function readInvoicePayments(invoice: unknown): string[] {
  const paid = pageOf(readMember(invoice, 'payments')).flatMap((payment) => {
    const key = readPaidWith(payment);
    return key === null ? [] : [key];
  });
  const before =
    readId(readMember(invoice, 'payment_intent')) ?? readId(readMember(invoice, 'charge'));
  return paid.length > 0 || before === null ? [...new Set(paid)] : [before];
}

/** What an invoice payment paid with: the intent, the charge, or a record of money paid elsewhere. */
export function readPaidWith(invoicePayment: unknown): string | null {
  const payment = readMember(invoicePayment, 'payment');
  return (
    readId(readMember(payment, 'payment_intent')) ??
    readId(readMember(payment, 'charge')) ??
    readId(readMember(payment, 'payment_record'))
  );
}

/** The invoice that a charge, an intent or an invoice payment names. Charges and intents: old shape only. */
export function readInvoice(object: unknown): string | null {
  return readId(readMember(object, 'invoice'));
}

/** Coupons of the discounts that the object shows; ids of unexpanded discounts say nothing. */
export function readCoupons(object: unknown): string[] {
  const discounts = [...listOf(readMember(object, 'discounts')), readMember(object, 'discount')];
  const coupons = discounts.map(
    (discount) =>
      readId(readMember(discount, 'source', 'coupon')) ?? readId(readMember(discount, 'coupon')),
  );
  return [...new Set(coupons)].filter((coupon) => coupon !== null);
}

// Lines of invoices --------------------------------------------------------------------------

export function readLinePrice(line: unknown): { price: string; product: string | null } | null {
  const details = readMember(line, 'pricing', 'price_details');
  for (const [price, product] of [
    [readMember(details, 'price'), readMember(details, 'product')],
    [readMember(line, 'price'), readMember(line, 'price', 'product')],
    [readMember(line, 'plan'), readMember(line, 'plan', 'product')],
  ]) {
    const id = readId(price);
    if (id !== null)
      return { price: id, product: readId(product) ?? readId(readMember(price, 'product')) };
  }
  return null;
}

/** The price of one unit as the line charged it, in its currency; null for tiered prices. */
export function readLineUnitAmount(line: unknown): string | null {
  return (
    readDecimal(readMember(line, 'pricing', 'unit_amount_decimal')) ??
    readDecimal(readMember(line, 'price', 'unit_amount_decimal')) ??
    readDecimal(readMember(line, 'price', 'unit_amount')) ??
    readDecimal(readMember(line, 'plan', 'amount_decimal')) ??
    readDecimal(readMember(line, 'plan', 'amount'))
  );
}

export function readLineProration(line: unknown): boolean {
  return [
    readMember(line, 'parent', 'subscription_item_details', 'proration'),
    readMember(line, 'parent', 'invoice_item_details', 'proration'),
    readMember(line, 'proration'),
  ].includes(true);
}

export function readLineSubscription(line: unknown): string | null {
  return (
    readId(readMember(line, 'parent', 'subscription_item_details', 'subscription')) ??
    readId(readMember(line, 'parent', 'invoice_item_details', 'subscription')) ??
    readId(readMember(line, 'subscription'))
  );
}

export function readLineSubscriptionItem(line: unknown): string | null {
  return (
    readId(readMember(line, 'parent', 'subscription_item_details', 'subscription_item')) ??
    readId(readMember(line, 'subscription_item'))
  );
}

/** The period a line pays for. The invoice's own period is the one of usage before it. */
export function readLinePeriod(line: unknown): StripePeriod | null {
  return periodOf(readMember(line, 'period', 'start'), readMember(line, 'period', 'end'));
}

// Subscriptions ------------------------------------------------------------------------------

/** The prices a subscription is to, with the id and quantity of each item. */
export function readSubscriptionItems(
  subscription: unknown,
): { item: string | null; price: string; product: string | null; quantity: number }[] {
  return pageOf(readMember(subscription, 'items')).flatMap((item) => {
    const price = readMember(item, 'price') ?? readMember(item, 'plan');
    const id = readId(price);
    if (id === null) return [];
    return [
      {
        item: readId(item),
        price: id,
        product: readId(readMember(price, 'product')),
        quantity: readAmount(readMember(item, 'quantity')) ?? 1,
      },
    ];
  });
}

/**
 * The current period. Since basil each item has its own; they may differ, and the widest span is
 * taken, of the items that `counts` accepts (default all) or, when it accepts none, of all.
 */
export function readSubscriptionPeriod(
  subscription: unknown,
  counts: (price: string) => boolean = () => true,
): StripePeriod | null {
  const periods = pageOf(readMember(subscription, 'items')).flatMap((item) => {
    const period = periodOf(
      readMember(item, 'current_period_start'),
      readMember(item, 'current_period_end'),
    );
    const price = readId(readMember(item, 'price')) ?? readId(readMember(item, 'plan'));
    return period === null ? [] : [{ ...period, counted: price !== null && counts(price) }];
  });
  const counted = periods.filter((period) => period.counted);
  const used = counted.length > 0 ? counted : periods;
  if (used.length === 0) {
    return periodOf(
      readMember(subscription, 'current_period_start'),
      readMember(subscription, 'current_period_end'),
    );
  }
  return {
    start: Math.min(...used.map(({ start }) => start)),
    end: Math.max(...used.map(({ end }) => end)),
  };
}

function periodOf(start: unknown, end: unknown): StripePeriod | null {
  const [from, to] = [readAmount(start), readAmount(end)];
  return from === null || to === null ? null : { start: from, end: to };
}

// Money that moves ---------------------------------------------------------------------------

/**
 * The payment that a charge, a refund, a dispute or an intent is about: the payment intent, or the
 * charge where there is none. Null for other objects, and for a refund of money paid elsewhere.
 */
export function readPayment(object: unknown): string | null {
  switch (readMember(object, 'object')) {
    case 'payment_intent':
      return readId(object);
    case 'charge':
      return readId(readMember(object, 'payment_intent')) ?? readId(object);
    case 'refund':
    case 'dispute':
      return readId(readMember(object, 'payment_intent')) ?? readId(readMember(object, 'charge'));
    default:
      return null;
  }
}

/** The refunds a credit note made. */
export function readCreditNoteRefunds(note: unknown): string[] {
  const listed = listOf(readMember(note, 'refunds')).map((linked) =>
    readId(readMember(linked, 'refund')),
  );
  const refunds = listed.length > 0 ? listed : [readId(readMember(note, 'refund'))];
  return refunds.filter((id) => id !== null);
}
