/** Random histories: what happens, by chance, and the request that it is at this point of the model. */
import fc from 'fast-check';
import { type Books, newBooks } from './books.ts';
import { answerOf, type Request } from './ledgerModel.ts';
import type { HoldName } from './spending.ts';

export const HOUR = 3_600_000;
export const USERS = ['u0', 'u1'];
/** Whoever never had a row. */
const NOBODY = 'u9';
const SETTLEMENTS = 2;
/** Price of each credit of a settlement in its smallest unit; nothing divides evenly, on purpose. */
const PAID = 997;

/** `hours` pass, then it happens. What there is of a kind is chosen by number, round and round. */
export type Step = { hours: number } & (
  | { do: 'buy'; user: number; settlement: number; lots: LotStep[]; with: string[] }
  | { do: 'give'; user: number; lots: LotStep[]; key: Key; type: 'bonus' | 'allocation' }
  | { do: 'gift'; user: number; amount: number; key: Key; lasts: number | null; priority: number }
  | { do: 'consume'; user: number; amount: number; key: Key }
  | { do: 'batch'; operations: { user: number; amount: number; key: Key }[] }
  | { do: 'hold'; user: number; amount: number; key: Key; lasts: number }
  | { do: 'capture'; hold: number; amount: number | null; key: Key }
  | { do: 'release'; hold: number }
  | { do: 'extend'; hold: number; lasts: number }
  | { do: 'refund'; user: number; usage: number; any: boolean; amount: number | null; key: Key }
  | { do: 'adjust'; user: number; amount: number; key: Key; debt: boolean }
  | {
      do: 'payment';
      settlement: number;
      name: string;
      paid: number;
      refunded: number;
      disputed: number;
      off: number;
      says: boolean;
    }
  | { do: 'look' | 'delete' | 'insert' | 'sync'; user: number }
  | { do: 'suspend'; user: number; suspended: boolean }
  | { do: 'expire' | 'nothing' }
  | { do: 'again'; which: number; change: 'nothing' | 'amount' | 'user' }
);

interface LotStep {
  credits: number;
  lasts: number | null;
  priority: number;
  kind: 'paid' | 'free' | 'plan';
}

/** One of a few keys that come again, or null for one of its own. */
type Key = number | null;

/** Mostly one, so that things meet. */
const user = fc.constantFrom(0, 0, 0, 1);
const amount = fc.oneof(
  { weight: 30, arbitrary: fc.integer({ min: 1, max: 20 }) },
  { weight: 1, arbitrary: fc.constant(0) },
);
const key = fc.option(fc.nat({ max: 3 }), { freq: 3 });
const lasts = fc.option(fc.integer({ min: 1, max: 200 }), { nil: null, freq: 2 });
const lot: fc.Arbitrary<LotStep> = fc.record({
  credits: fc.noBias(fc.integer({ min: 5, max: 90 })),
  lasts,
  priority: fc.constantFrom(100, 100, 50, 150),
  kind: fc.constantFrom('paid', 'free', 'plan'),
});
const lots = fc.array(lot, { minLength: 1, maxLength: 3 });
const settlement = fc.nat({ max: SETTLEMENTS - 1 });
const only = <T extends string>(value: T) => fc.constant(value);

const what = fc.oneof(
  // What any step shrinks to, so that a counterexample shows the steps that matter.
  { withCrossShrink: true },
  { weight: 1, arbitrary: fc.record({ do: only('nothing') }) },
  {
    weight: 9,
    arbitrary: fc.record({
      do: only('buy'),
      user,
      settlement,
      lots,
      with: fc.subarray(['session', 'invoice', 'A', 'B', 'balance', 'A as source', 'other'], {
        minLength: 1,
      }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: only('give'),
      user,
      lots,
      key,
      type: fc.constantFrom('bonus', 'allocation'),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: only('gift'),
      user,
      amount,
      key,
      lasts: fc.option(fc.integer({ min: -5, max: 200 }), { nil: null }),
      priority: fc.constantFrom(0, 100),
    }),
  },
  { weight: 8, arbitrary: fc.record({ do: only('consume'), user, amount, key }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: only('batch'),
      operations: fc.array(
        fc.record({
          user: fc.constantFrom(0, 0, 0, 1, 1, 2),
          amount: fc.integer({ min: 1, max: 25 }),
          key,
        }),
        { minLength: 1, maxLength: 6 },
      ),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      do: only('hold'),
      user,
      amount,
      key,
      lasts: fc.integer({ min: 1, max: 200 }),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({ do: only('capture'), hold: fc.nat(), amount: fc.option(amount), key }),
  },
  { weight: 2, arbitrary: fc.record({ do: only('release'), hold: fc.nat() }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: only('extend'),
      hold: fc.nat(),
      lasts: fc.integer({ min: 1, max: 300 }),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: only('refund'),
      user,
      usage: fc.nat(),
      any: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
      amount: fc.option(amount),
      key,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: only('adjust'),
      user,
      amount: fc.integer({ min: -60, max: 30 }),
      key,
      debt: fc.boolean(),
    }),
  },
  {
    weight: 10,
    arbitrary: fc.record({
      do: only('payment'),
      settlement,
      name: fc.constantFrom('A', 'A', 'A', 'A', 'B', 'B', 'B', 'B', 'balance'),
      paid: fc.constantFrom(PAID, PAID, PAID, 300),
      refunded: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: PAID })),
      disputed: fc.constantFrom(0, 0, 0, PAID),
      off: fc.constantFrom(0, 0, 0, 0, 0, 0, -1, 1),
      says: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constantFrom('look', 'look', 'sync', 'delete'), user }),
  },
  // Whoever is gone shall not stay away for most of the history.
  { weight: 2, arbitrary: fc.record({ do: only('insert'), user }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: only('suspend'),
      user,
      suspended: fc.constantFrom(false, false, true),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: only('expire') }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: only('again'),
      which: fc.nat(),
      change: fc.constantFrom('nothing', 'nothing', 'amount', 'user'),
    }),
  },
);

const hours = fc.oneof(
  { weight: 3, arbitrary: fc.constant(0) },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 80 }) },
);

const step = fc
  .tuple(hours, what)
  .map(([passed, happens]) => ({ ...happens, hours: passed })) as fc.Arbitrary<Step>;

/** A history of so many steps. */
export const history = (steps: number): fc.Arbitrary<Step[]> =>
  fc.array(step, { minLength: steps, maxLength: steps });

export interface Scripted {
  request: Request;
  now: number;
  /** What the model answers, and where each user stands after it. */
  expected: { answer: Record<string, unknown>; books: unknown };
}

/**
 * Lets the history happen in the model. `start`: when it begins; `wall`: when accounts return.
 * Times are whole hours after `start`, and half an hour away from `wall`.
 */
export function play(
  steps: readonly Step[],
  start: number,
  wall: number,
  look: (books: Books) => unknown,
): { books: Books; script: Scripted[] } {
  const books = newBooks(wall);
  const script: Scripted[] = [];
  let now = start;
  const happen = (request: Request) => {
    const answer = answerOf(books, now, request);
    script.push({ request, now, expected: { answer, books: look(books) } });
  };
  for (const name of USERS) happen({ name: '$insert', args: { user: name } });
  for (const [index, one] of steps.entries()) {
    now += one.hours * HOUR;
    const request = requestOf(books, script, one, index, now);
    if (request !== null) happen(request);
  }
  return { books, script };
}

const nameOf = (index: number) => USERS[index] ?? NOBODY;
const keyOf = (given: Key, index: number) => (given === null ? `f${index}` : `k${given}`);

/** The request that a step is here; null where there is nothing for it to be about. */
function requestOf(
  books: Books,
  before: readonly Scripted[],
  one: Step,
  index: number,
  now: number,
): Request | null {
  const at = (lastsHours: number | null) => (lastsHours === null ? null : now + lastsHours * HOUR);
  const lotsOf = (given: LotStep[]) =>
    given.map((l) => ({
      credits: l.credits,
      expires_at: at(l.lasts),
      priority: l.priority,
      paid: l.kind === 'paid',
      from_plan: l.kind === 'plan',
    }));
  switch (one.do) {
    case 'buy': {
      const names: Record<string, string> = {
        session: `checkout:cs_${one.settlement}`,
        invoice: `invoice:in_${one.settlement}`,
        'A as source': `payment:${paymentName(one.settlement, 'A')}`,
        other: `checkout:cs_${(one.settlement + 1) % SETTLEMENTS}`,
      };
      const payments = one.with.filter((name) => ['A', 'B', 'balance'].includes(name));
      return {
        name: 'grant_credits',
        args: {
          p_user_id: nameOf(one.user),
          p_type: 'purchase',
          p_key: `checkout:cs_${one.settlement}`,
          p_lots: lotsOf(one.lots),
          p_sources: one.with.flatMap((name) => names[name] ?? []),
          p_payments: payments.map((name) => ({
            payment: paymentName(one.settlement, name),
            paid: name === 'balance' ? 58 : PAID,
            currency: 'USD',
          })),
        },
      };
    }
    case 'give':
      return {
        name: 'grant_credits',
        args: {
          p_user_id: nameOf(one.user),
          p_type: one.type,
          p_key: `grant:${keyOf(one.key, index)}`,
          p_lots: lotsOf(one.lots),
        },
      };
    case 'gift':
      return {
        name: 'grant_free_credits',
        args: {
          p_user_id: nameOf(one.user),
          p_amount: one.amount,
          p_type: 'bonus',
          p_key: keyOf(one.key, index),
          p_reason: 'a gift',
          p_expires_at: at(one.lasts),
          p_priority: one.priority,
        },
      };
    case 'consume':
      return {
        name: 'consume_credits',
        args: {
          p_user_id: nameOf(one.user),
          p_amount: one.amount,
          p_key: keyOf(one.key, index),
        },
      };
    case 'batch':
      return {
        name: 'consume_credits_batch',
        args: {
          p_operations: one.operations.map((operation, place) => ({
            user_id: nameOf(operation.user),
            amount: operation.amount,
            idempotency_key: keyOf(operation.key, index * 10 + place),
          })),
        },
      };
    case 'hold':
      return {
        name: 'hold_credits',
        args: {
          p_user_id: nameOf(one.user),
          p_amount: one.amount,
          p_key: keyOf(one.key, index),
          p_expires_in_seconds: one.lasts * 3600,
        },
      };
    case 'capture':
    case 'release':
    case 'extend': {
      const holds = [...books.accounts.values()].flatMap((account) =>
        account.holds.map((hold) => [account.id, hold.key] as const),
      );
      const [owner, holdKey] = holds[one.hold % holds.length] ?? [];
      if (owner === undefined || holdKey === undefined) return null;
      const p_hold_id: HoldName = { $hold: [owner, holdKey] };
      if (one.do === 'release') return { name: 'release_hold', args: { p_hold_id } };
      if (one.do === 'extend') {
        const p_expires_in_seconds = one.lasts * 3600;
        return { name: 'extend_hold', args: { p_hold_id, p_expires_in_seconds } };
      }
      const args = { p_hold_id, p_key: keyOf(one.key, index), p_amount: one.amount };
      return { name: 'capture_hold', args };
    }
    case 'refund': {
      const entries = [...books.accounts.values()].flatMap((account) =>
        account.entries
          .filter((entry) => one.any || (entry.type === 'usage' && account.id === nameOf(one.user)))
          .map((entry) => [account.id, entry.number] as [string, number]),
      );
      const $entry = entries[one.usage % entries.length];
      if ($entry === undefined) return null;
      const args = {
        p_user_id: nameOf(one.user),
        p_transaction_id: { $entry },
        p_key: keyOf(one.key, index),
        p_amount: one.amount,
      };
      return { name: 'refund_usage', args };
    }
    case 'adjust':
      return {
        name: 'adjust_credits',
        args: {
          p_user_id: nameOf(one.user),
          p_amount: one.amount,
          p_key: keyOf(one.key, index),
          p_reason: 'a correction',
          p_actor: 'somebody',
          p_allow_debt: one.debt,
        },
      };
    case 'payment':
      return {
        name: 'set_payment_state',
        args: {
          p_payment: paymentName(one.settlement, one.name),
          p_version: { $off: one.off },
          p_paid: one.paid,
          p_refunded: one.refunded,
          p_disputed: one.disputed,
          p_currency: one.says ? 'USD' : null,
          p_status: one.says ? 'succeeded' : null,
          p_actor: one.says ? 'somebody' : null,
        },
      };
    case 'look':
      return { name: 'get_credit_balance', args: { p_user_id: nameOf(one.user) } };
    case 'sync':
      return { name: 'sync_user_credits', args: { p_user_id: nameOf(one.user) } };
    case 'delete':
    case 'insert':
      return { name: `$${one.do}`, args: { user: nameOf(one.user) } };
    case 'suspend':
      return { name: '$suspend', args: { user: nameOf(one.user), suspended: one.suspended } };
    case 'expire':
      return { name: 'expire_due_credits', args: {} };
    case 'nothing':
      return null;
    case 'again':
      return again(before[one.which % before.length]?.request, one.change);
  }
}

const paymentName = (settlement: number, name: string) =>
  name === 'balance' ? `balance:in_${settlement}` : `pi_${settlement}_${name}`;

/** An earlier request as it was, or with another amount, or for another user. */
function again(earlier: Request | undefined, change: string): Request | null {
  if (earlier === undefined || earlier.name.startsWith('$')) return null;
  const args: Record<string, unknown> = { ...earlier.args };
  if (change === 'amount' && typeof args.p_amount === 'number') args.p_amount += 1;
  if (change === 'amount' && typeof args.p_refunded === 'number') args.p_refunded += 1;
  if (change === 'user' && typeof args.p_user_id === 'string') {
    args.p_user_id = nameOf((USERS.indexOf(args.p_user_id) + 1) % USERS.length);
  }
  return { name: earlier.name, args } as Request;
}
