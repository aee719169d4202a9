/** The ledger of the virtual year beside what Stripe's objects say, person by person. */
import type Stripe from 'stripe';
import {
  type ExpectedCredits,
  expectedOf,
  type PriceList,
  readMoneyBack,
} from './expectedCredits.ts';
import type { Person } from './people.ts';

export type Query = <R extends Record<string, unknown>>(
  text: string,
  values?: unknown[],
) => Promise<R[]>;

/** What the ledger says of one user. */
type Ledger = {
  user_id: string;
  granted: number;
  clawed_back: number;
  used: number;
  balance: number;
  debt: number;
};

export interface Difference {
  user: string;
  customer: string;
  /** E.g. `granted: 80, expected 50`. */
  what: string[];
  /** Stripe's objects and the entries, one a line, where they do not agree. */
  objects: string[];
}

type Entry = {
  transaction_type: string;
  amount: number;
  idempotency_key: string;
  object: string | null;
};

/** Everybody whose credits are not, to the credit, what he paid for and did not get back. */
export async function findDifferences({
  stripe,
  query,
  prices,
  people,
  today,
  used,
}: {
  stripe: Stripe;
  query: Query;
  prices: PriceList;
  people: readonly Person[];
  /** The day on which the year ended. */
  today: number;
  /** Credits used by user, as the answers said. */
  used: ReadonlyMap<string, number>;
}): Promise<Difference[]> {
  const moneyBack = await readMoneyBack(stripe);
  const ledgers = new Map((await readLedgers(query)).map((ledger) => [ledger.user_id, ledger]));
  const differences: Difference[] = [];
  for (const person of people) {
    const { user, customer, knownFrom } = person;
    const expected = await expectedOf(stripe, prices, moneyBack, customer);
    const known = knownFrom !== null && knownFrom < today;
    const { granted, clawedBack } = known ? expected : { granted: 0, clawedBack: 0 };
    const ledger = ledgers.get(user);
    const spent = used.get(user) ?? 0;
    const rest = granted - clawedBack - spent;
    const pairs: [string, number, number][] = [
      ['granted', ledger?.granted ?? 0, granted],
      ['clawed back', ledger?.clawed_back ?? 0, clawedBack],
      ['used', ledger?.used ?? 0, spent],
      ['balance', ledger?.balance ?? 0, rest],
      ['debt', ledger?.debt ?? 0, Math.max(0, -rest)],
    ];
    const what = pairs
      .filter(([, found, wanted]) => Number(found) !== wanted)
      .map(([name, found, wanted]) => `${name}: ${found}, expected ${wanted}`);
    if (what.length > 0) {
      differences.push({ user, customer, what, objects: await tell(query, user, expected) });
    }
  }
  return differences;
}

/** The sum of the entries by kind; what stands in `users` must agree with it. */
function readLedgers(query: Query): Promise<Ledger[]> {
  return query<Ledger>(`
    select u.id::text as user_id,
      coalesce(sum(t.amount) filter
        (where t.transaction_type in ('purchase', 'allocation', 'bonus')), 0)::float8 as granted,
      coalesce(-sum(t.amount) filter
        (where t.transaction_type in ('clawback', 'clawback_reversal')), 0)::float8 as clawed_back,
      coalesce(-sum(t.amount) filter (where t.transaction_type = 'usage'), 0)::float8 as used,
      u.credits_balance::float8 as balance, u.credits_debt::float8 as debt
    from public.users u left join public.credit_transactions t on t.user_id = u.id::text
    group by u.id`);
}

/** What each settlement should have brought and did, where the two differ. */
async function tell(query: Query, user: string, expected: ExpectedCredits): Promise<string[]> {
  const entries = await query<Entry>(
    `select transaction_type, amount::float8 as amount, idempotency_key,
       coalesce(stripe_session_id, stripe_invoice_id) as object
     from public.credit_transactions
     where user_id = $1 and transaction_type not like 'usage%' order by entry_number`,
    [user],
  );
  const lines: string[] = [];
  const seen = new Set<Entry>();
  for (const { id, granted, clawedBack, settled, objects } of expected.settlements) {
    const payments = objects.map((object) => object.split(' ')[0] ?? '');
    const mine = entries.filter(
      ({ object, idempotency_key: key }) =>
        object === id || payments.some((payment) => key.includes(payment)),
    );
    for (const entry of mine) seen.add(entry);
    const found = mine.reduce((sum, { amount }) => sum + amount, 0);
    if (found === granted - clawedBack) continue;
    lines.push(
      `${id}: ${granted} granted, ${clawedBack} back, settled ${settled} [${objects.join('; ')}]`,
      ...mine.map(describe),
    );
  }
  const others = entries.filter((entry) => !seen.has(entry));
  return [...lines, ...others.map((entry) => `of no settlement: ${describe(entry)}`)];
}

const describe = ({ transaction_type: type, amount, idempotency_key: key }: Entry) =>
  `  ${type} ${amount} ${key}`;
