/** The model's rules for grants, and for what became of the payments behind them. */
import { type Answer, entryAnswer, mirror } from './answers.ts';
import {
  type Account,
  addLot,
  anyLot,
  append,
  type Books,
  type Entry,
  entryName,
  expireDue,
  type Part,
  type Payment,
  sum,
  take,
  total,
} from './books.ts';
import { returnToLot, slice } from './returns.ts';
import { INVALID } from './spending.ts';

export interface GrantArgs {
  p_user_id: string;
  p_type: string;
  p_key: string;
  p_lots: {
    credits: number;
    expires_at?: number | null;
    priority?: number;
    paid?: boolean;
    from_plan?: boolean;
  }[];
  p_sources?: string[];
  p_payments?: { payment: string; paid: number; currency: string }[];
}

export function grant(books: Books, now: number, args: GrantArgs): Answer {
  if (args.p_lots.some((lot) => lot.credits < 1)) return INVALID;
  const granted = sum(args.p_lots.map((lot) => lot.credits));
  const payments = args.p_payments ?? [];
  const keys = [
    ...new Set([...(args.p_sources ?? []), ...payments.map((one) => `payment:${one.payment}`)]),
  ];
  const account = books.accounts.get(args.p_user_id);
  if (account?.open) expireDue(account, now);

  const owners = new Map(
    keys.flatMap((key) => {
      const owner = books.sources.get(key);
      return owner === undefined ? [] : [[`${owner.user}#${owner.entry}`, owner] as const];
    }),
  );
  const [owner] = owners.values();
  if (owners.size > 1 || (owner !== undefined && owner.user !== args.p_user_id)) {
    note(books, `source_conflict ${args.p_key}`);
    return { outcome: 'conflict', user_id: args.p_user_id };
  }
  const known =
    owner === undefined
      ? account?.entries.find((entry) => entry.key === args.p_key)
      : account?.entries[owner.entry - 1];
  if (account !== undefined && known !== undefined) {
    attach(books, account, known.number, keys, payments);
    if (account.open && namesPayments(keys)) {
      settle(books, account, known.number, null, now);
      expireDue(account, now);
    }
    if (known.amount !== granted || known.type !== args.p_type) {
      if (keys.length === 0) return entryAnswer('conflict', account, known);
      note(books, `source_amount_differs ${args.p_key}`);
    }
    return {
      ...entryAnswer('replayed', account, known),
      mirror: account.open ? mirror(account) : null,
    };
  }
  if (!account?.open) return { outcome: 'not_found', user_id: args.p_user_id };

  const number = account.entries.length + 1;
  for (const key of keys) books.sources.set(key, { user: account.id, entry: number });
  const repaid = Math.min(account.debt, granted);
  account.debt -= repaid;
  let toRepay = repaid;
  const parts = args.p_lots.map((lot) => {
    const used = Math.min(toRepay, lot.credits);
    toRepay -= used;
    const made = addLot(account, {
      entry: number,
      amount: lot.credits,
      remaining: lot.credits - used,
      priority: lot.priority ?? 100,
      expiresAt: lot.expires_at ?? null,
      paid: lot.paid ?? args.p_type === 'purchase',
      fromPlan: lot.from_plan ?? false,
    });
    return { lot: made.place, amount: lot.credits };
  });
  const entry = append(account, now, {
    type: args.p_type,
    amount: granted,
    key: args.p_key,
    parts,
  });
  const answer = entryAnswer('applied', account, entry);
  expireDue(account, now);
  if (namesPayments(keys)) {
    attach(books, account, number, keys, payments);
    settle(books, account, number, null, now);
    expireDue(account, now);
  }
  return { ...answer, repaid_debt: repaid, mirror: mirror(account) };
}

const namesPayments = (keys: readonly string[]) => keys.some((key) => key.startsWith('payment:'));

export function note(books: Books, finding: string): void {
  books.findings.set(finding, (books.findings.get(finding) ?? 0) + 1);
}

/** Claims what is free of a settlement's names, and joins its payments to the entry. */
function attach(
  books: Books,
  account: Account,
  entry: number,
  keys: readonly string[],
  payments: readonly { payment: string; paid: number; currency: string }[],
): void {
  for (const key of keys) {
    books.sources.set(key, { user: account.id, entry });
    if (!key.startsWith('payment:')) continue;
    const name = key.slice('payment:'.length);
    const given = payments.find((one) => one.payment === name);
    const before = books.payments.get(name);
    const after = {
      ...(before ?? { ...NO_PAYMENT, version: 1 }),
      user: account.id,
      entry,
      currency: before?.currency ?? given?.currency.toLowerCase() ?? null,
      // Learned from Stripe before, it may be more than the grant knew.
      paid: Math.max(before?.paid ?? 0, given?.paid ?? 0),
    };
    if (before !== undefined && !sameWords(before, after)) after.version += 1;
    books.payments.set(name, after);
  }
}

const NO_PAYMENT: Payment = {
  user: null,
  entry: null,
  currency: null,
  paid: 0,
  refunded: 0,
  disputed: 0,
  status: null,
  version: 0,
};

const words = ({ version: _, ...rest }: Payment) => JSON.stringify(Object.entries(rest).sort());
const sameWords = (a: Payment, b: Payment) => words(a) === words(b);

const paymentsOf = (books: Books, account: Account, entry: number) =>
  [...books.payments].filter(([, one]) => one.user === account.id && one.entry === entry);

const clawEntries = (account: Account, entry: number) =>
  account.entries.filter((one) => one.reverses === entry && one.type.startsWith('clawback'));

/** The target: floor(granted * min(settled, what is gone again of each payment) / settled). */
function targetOf(books: Books, account: Account, entry: number): number {
  const of = paymentsOf(books, account, entry).map(([, one]) => one);
  const settled = sum(of.map((one) => one.paid));
  if (settled === 0) return 0;
  const gone = sum(of.map((one) => Math.min(one.paid, one.refunded + one.disputed)));
  const granted = account.entries[entry - 1]?.amount ?? 0;
  return Number((BigInt(granted) * BigInt(Math.min(settled, gone))) / BigInt(settled));
}

/** Brings a settlement to its target. `moved`: the payment whose name the entry bears. */
export function settle(
  books: Books,
  account: Account,
  entry: number,
  moved: string | null,
  now: number,
): Entry | null {
  const before = clawEntries(account, entry);
  const clawed = -sum(before.map((one) => one.amount));
  const difference = targetOf(books, account, entry) - clawed;
  if (difference === 0) return null;
  const names = paymentsOf(books, account, entry).sort(
    ([a, one], [b, other]) =>
      Number(one.refunded + one.disputed === 0) - Number(other.refunded + other.disputed === 0) ||
      (a < b ? -1 : 1),
  );
  const name = moved ?? names[0]?.[0];
  const times = before.filter((one) => one.key.startsWith(`clawback:${name}:`)).length;
  const key = `clawback:${name}:${times + 1}`;
  return difference > 0
    ? clawBack(account, entry, difference, key, now)
    : reverse(account, entry, -difference, key, now);
}

/** Of the grant's own lots, then of others in burn-down order, plan lots too; the rest is debt. */
function clawBack(account: Account, entry: number, amount: number, key: string, now: number) {
  const parts = take(account, amount, (lot) => lot.entry === entry);
  parts.push(...take(account, amount - total(parts), anyLot));
  account.debt += amount - total(parts);
  return append(account, now, { type: 'clawback', amount: -amount, key, parts, reverses: entry });
}

/** What became debt, on the stack of takings. */
const DEBT = -1;

/** What was taken of a grant and is not back yet, the newest taking first. */
function takings(account: Account, entry: number): Part[] {
  let stack: Part[] = [];
  for (const one of clawEntries(account, entry)) {
    if (one.amount > 0) {
      stack = slice(stack, one.amount, Number.POSITIVE_INFINITY);
    } else {
      const debt = { lot: DEBT, amount: -one.amount - total(one.parts) };
      stack = [debt, ...[...one.parts].reverse(), ...stack].filter((part) => part.amount > 0);
    }
  }
  return stack;
}

/**
 * Debt is repaid first, out of the newest takings; each other part returns where it was taken
 * from. What was debt, and repaid by others since, goes to the grant's own lots as far as they
 * have room, else it is a lot like the longest lived of them.
 */
function reverse(account: Account, entry: number, amount: number, key: string, now: number) {
  const repaid = Math.min(account.debt, amount);
  account.debt -= repaid;
  const number = account.entries.length + 1;
  const back = slice(takings(account, entry), repaid, amount - repaid);
  const parts: Part[] = [];
  for (const part of back) {
    if (part.lot !== DEBT) parts.push(...returnToLot(account, part.lot, part.amount, number, now));
  }
  let loose = total(back.filter((part) => part.lot === DEBT));
  const own = account.lots.filter((lot) => lot.entry === entry);
  for (const lot of own) {
    const alive = lot.expiresAt === null || lot.expiresAt > now;
    const fits = alive ? Math.min(loose, lot.amount - lot.remaining) : 0;
    if (fits > 0) parts.push(...returnToLot(account, lot.place, fits, number, now));
    loose -= fits;
  }
  const last = (lot: { expiresAt: number | null }) => lot.expiresAt ?? Number.POSITIVE_INFINITY;
  const longest = own.reduce((best, lot) => (last(lot) > last(best) ? lot : best));
  if (loose > 0) parts.push(...returnToLot(account, longest.place, loose, number, now));
  return append(account, now, { type: 'clawback_reversal', amount, key, parts, reverses: entry });
}

export interface PaymentArgs {
  p_payment: string;
  /** How far from the version that stands: 0 is what an undisturbed handler has read. */
  p_version: { $off: number };
  p_paid: number;
  p_refunded: number;
  p_disputed: number;
  p_currency: string | null;
  p_status: string | null;
  p_actor: string | null;
}

export function setPaymentState(books: Books, now: number, args: PaymentArgs): Answer {
  const name = args.p_payment;
  // What a customer's balance paid cannot be refunded.
  if (name.startsWith('balance:')) return INVALID;
  const owner = books.sources.get(`payment:${name}`);
  const account = owner === undefined ? undefined : books.accounts.get(owner.user);
  if (account?.open) expireDue(account, now);

  const before = books.payments.get(name);
  const told = {
    currency: args.p_currency?.toLowerCase() ?? before?.currency ?? null,
    paid: args.p_paid,
    refunded: args.p_refunded,
    disputed: args.p_disputed,
    status: args.p_status ?? before?.status ?? null,
  };
  const was = before ?? NO_PAYMENT;
  const after: Payment = {
    ...was,
    ...told,
    user: owner?.user ?? was.user,
    entry: owner?.entry ?? was.entry,
  };
  const saysTheSame = before !== undefined && sameWords({ ...before, ...told }, before);
  if (args.p_version.$off !== 0 && !saysTheSame) {
    return { ...paymentAnswer(name, was), outcome: 'stale' };
  }
  const changed = before === undefined || !sameWords(before, after);
  if (changed) after.version += 1;
  books.payments.set(name, after);
  let entry: Entry | null = null;
  if (account?.open && after.entry !== null) {
    entry = settle(books, account, after.entry, name, now);
    expireDue(account, now);
  }
  if (args.p_actor !== null && changed) {
    books.audit.push(`${args.p_actor} set_payment_state ${after.user}`);
  }
  return {
    ...paymentAnswer(name, after),
    outcome: changed ? 'applied' : 'unchanged',
    transaction_id: entry !== null && account ? entryName(account, entry.number) : null,
    amount: entry?.amount ?? null,
    mirror: account?.open ? mirror(account) : null,
  };
}

const paymentAnswer = (name: string, payment: Payment): Answer => ({
  payment: name,
  version: payment.version,
  user_id: payment.user,
  currency: payment.currency,
  paid: payment.paid,
  refunded: payment.refunded,
  disputed: payment.disputed,
  status: payment.status,
  detail: {},
});

/** A row inserted again: the account goes on where it was left, and at the targets of today. */
export function returnAccount(books: Books, account: Account): void {
  account.open = true;
  account.version += 1;
  books.audit.push(`sql account_returned ${account.id}`);
  const of = [...books.payments.values()].filter((one) => one.user === account.id);
  const moved =
    of.some((one) => one.refunded + one.disputed > 0) ||
    account.entries.some((entry) => entry.type === 'clawback');
  // Where no payment has anything to say, what is due waits for the next call.
  if (!moved) return;
  expireDue(account, books.wall);
  const entries = [...new Set(of.map((one) => one.entry ?? 0))].sort((a, b) => a - b);
  for (const entry of entries) settle(books, account, entry, null, books.wall);
  expireDue(account, books.wall);
}
