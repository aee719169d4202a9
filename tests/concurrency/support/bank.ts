/**
 * The bank test: many users, writers that do everything to them at once, and readers that look at
 * all of the books in one snapshot after the other. In no snapshot may a number be off.
 */
import pg from 'pg';
import type { Database } from '../../../src/core/ports.ts';
import type { TestDatabase } from '../../support/postgres.ts';
import { type Answer, concurrently } from '../../support/sqlCall.ts';

export interface BankOptions {
  users: number;
  writers: number;
  /** Of each writer. */
  operations: number;
  readers: number;
  seed: number;
}

export interface BankReport {
  snapshots: number;
  /** What was wrong in a snapshot; must stay empty. */
  bad: string[];
  /** "<operation> <outcome>" with how often it was answered. */
  outcomes: Record<string, number>;
  /** Credits as the answers told it: granted, spent, given back; and as the entries hold them. */
  told: Moved;
  written: Moved;
}

interface Moved {
  granted: number;
  spent: number;
  returned: number;
}

const OPENING = 20;
const PAID_CENTS = 997;
/** Users that half of all operations are about, so that they meet. */
const HOT_USERS = 20;

const userOf = (index: number) => `bank-${index}`;

/** Opens the accounts, lets everybody at them, and tells what was seen. `ports`: taken by turns. */
export async function runBank(
  database: TestDatabase,
  ports: readonly Database[],
  options: BankOptions,
): Promise<BankReport> {
  await database.query(
    `insert into users (id) select 'bank-' || n from generate_series(0, $1 - 1) n`,
    [options.users],
  );
  await database.query(
    `select public.grant_credits('bank-' || n, 'purchase', 'checkout:cs_bank_' || n,
       jsonb_build_array(jsonb_build_object('credits', $2::int)),
       p_payments => jsonb_build_array(jsonb_build_object('payment', 'pi_bank_' || n, 'paid', $3::int, 'currency', 'usd')))
     from generate_series(0, $1 - 1) n`,
    [options.users, OPENING, PAID_CENTS],
  );
  const report: BankReport = {
    snapshots: 0,
    bad: [],
    outcomes: {},
    told: { granted: options.users * OPENING, spent: 0, returned: 0 },
    written: { granted: 0, spent: 0, returned: 0 },
  };
  const state = { writing: true };
  const reading = concurrently(options.readers, () =>
    readSnapshots(database.connectionString, options.users, state, report),
  );
  try {
    await concurrently(options.writers, (writer) => {
      const port = ports[writer % ports.length];
      if (port === undefined) throw new Error('A bank needs a way to its database.');
      return write(port, writer, options, report);
    });
  } finally {
    state.writing = false;
    await reading;
  }
  const [written] = await database.query<Moved & pg.QueryResultRow>(
    `select coalesce(sum(amount) filter (where transaction_type in ('purchase', 'bonus')), 0)::int as granted,
            coalesce(-sum(amount) filter (where transaction_type = 'usage'), 0)::int as spent,
            coalesce(sum(amount) filter (where transaction_type = 'usage_refund'), 0)::int as returned
     from credit_transactions`,
  );
  if (written !== undefined) report.written = { ...written };
  return report;
}

/** One writer: a random operation after the other, each answer counted. */
async function write(port: Database, writer: number, options: BankOptions, report: BankReport) {
  const random = randomOf(options.seed + writer);
  const below = (n: number) => Math.floor(random() * n);
  const anyUser = () => userOf(below(random() < 0.5 ? HOT_USERS : options.users));
  const spends: { user: string; id: string }[] = [];
  const count = (what: string, answer: Answer) => {
    const word = `${what} ${answer.outcome}`;
    report.outcomes[word] = (report.outcomes[word] ?? 0) + 1;
    return answer.outcome === 'applied';
  };
  const spent = (what: string, user: string, answer: Answer, amount: number) => {
    if (!count(what, answer)) return;
    report.told.spent += amount;
    spends.push({ user, id: answer.transaction_id });
  };

  for (let n = 0; n < options.operations; n += 1) {
    const key = `${writer}-${n}`;
    const user = anyUser();
    const amount = 1 + below(8);
    const chosen = random();
    if (chosen < 0.35) {
      const args = { p_user_id: user, p_amount: amount, p_key: key };
      spent('consume', user, await port.rpc<Answer>('consume_credits', args), amount);
    } else if (chosen < 0.55) {
      const operations = Array.from({ length: 5 }, (_, place) => ({
        user_id: anyUser(),
        amount,
        idempotency_key: `${key}-${place}`,
      }));
      const args = { p_operations: operations, p_wait: random() < 0.5 };
      const { results } = await port.rpc<{ results: Answer[] }>('consume_credits_batch', args);
      for (const answer of results) spent('batch', answer.user_id, answer, amount);
    } else if (chosen < 0.7) {
      const args = { p_user_id: user, p_amount: amount, p_key: key };
      const held = await port.rpc<Answer>('hold_credits', args);
      if (!count('hold', held)) continue;
      const part = 1 + below(amount);
      const capture = { p_hold_id: held.hold_id, p_key: key, p_amount: part };
      spent('capture', user, await port.rpc<Answer>('capture_hold', capture), part);
      count('release', await port.rpc<Answer>('release_hold', { p_hold_id: held.hold_id }));
    } else if (chosen < 0.8) {
      const spend = spends[below(spends.length)];
      if (spend === undefined) continue;
      const args = { p_user_id: spend.user, p_transaction_id: spend.id, p_key: key, p_amount: 1 };
      if (count('refund', await port.rpc<Answer>('refund_usage', args))) report.told.returned += 1;
    } else if (chosen < 0.9) {
      // Every other one expires within the test.
      const expires_at = n % 2 === 0 ? null : new Date(Date.now() + 2_000).toISOString();
      const lots = [{ credits: amount, expires_at }];
      const args = { p_user_id: user, p_type: 'bonus', p_key: `grant:${key}`, p_lots: lots };
      if (count('grant', await port.rpc<Answer>('grant_credits', args))) {
        report.told.granted += amount;
      }
    } else {
      const p_payment = user.replace('bank-', 'pi_bank_');
      const { version } = await port.rpc<Answer>('get_payment_state', { p_payment });
      const args = {
        p_payment,
        p_version: version,
        p_paid: PAID_CENTS,
        p_refunded: below(PAID_CENTS + 1),
        p_disputed: 0,
      };
      count('payment', await port.rpc<Answer>('set_payment_state', args));
    }
  }
}

interface Counters extends pg.QueryResultRow {
  user_id: string;
  balance: number;
  held: number;
  debt: number;
  entries: number;
}

const COUNTERS = `
  select id as user_id, credits_balance::int as balance, credits_held::int as held,
         credits_debt::int as debt, entry_count::int as entries
  from users order by id`;
const BOOKS = `
  select u.id as user_id, coalesce(t.total, 0)::int as balance, coalesce(h.held, 0)::int as held,
         (coalesce(g.remaining, 0) - coalesce(t.total, 0))::int as debt, coalesce(t.entries, 0)::int as entries
  from users u
  left join (select user_id, sum(amount) as total, max(entry_number) as entries
             from credit_transactions group by user_id) t on t.user_id = u.id
  left join (select user_id, sum(remaining) as remaining from credit_grants group by user_id) g on g.user_id = u.id
  left join (select user_id, sum(amount - captured) as held from credit_holds
             where status = 'open' group by user_id) h on h.user_id = u.id
  order by u.id`;

/** One reader: whole snapshots, in several statements each, until the writers are done. */
async function readSnapshots(
  connectionString: string,
  users: number,
  state: { writing: boolean },
  report: BankReport,
): Promise<void> {
  const client = new pg.Client({ connectionString });
  await client.connect();
  try {
    for (let last = false; !last; ) {
      // The last one begins after the last write.
      last = !state.writing;
      await client.query('begin isolation level repeatable read read only');
      const { rows: counters } = await client.query<Counters>(COUNTERS);
      const { rows: books } = await client.query<Counters>(BOOKS);
      const { rows: drift } = await client.query(
        `select user_id, issue from validate_credits_consistency('sums')`,
      );
      await client.query('commit');
      report.snapshots += 1;
      if (counters.length !== users) report.bad.push(`${counters.length} users`);
      for (const [index, counted] of counters.entries()) {
        const [a, b] = [JSON.stringify(counted), JSON.stringify(books[index])];
        if (a !== b) report.bad.push(`${a} where the books say ${b}`);
        if (counted.debt > 0 && counted.balance !== -counted.debt) report.bad.push(`in debt: ${a}`);
        if (counted.balance < 0 && counted.debt === 0) report.bad.push(`below zero: ${a}`);
      }
      for (const row of drift) report.bad.push(JSON.stringify(row));
    }
  } finally {
    await client.end();
  }
}

/** mulberry32: a sequence of its own for each seed. */
function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
