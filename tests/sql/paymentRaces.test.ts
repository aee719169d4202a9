import { afterEach, expect, it } from '@jest/globals';
import { type PaymentState, paymentWorld } from '../support/paymentWorld.ts';
import { testDatabase } from '../support/postgres.ts';
import { concurrently, countBy } from '../support/sqlCall.ts';
import { waitFor } from '../support/stack.ts';

const database = testDatabase();
const { call, pay, newUser, grant, bonus, consume, set, state, clawBacks, drift } =
  paymentWorld(database);

/** Reads again and again, as a handler does, until its word was the one that counted. */
async function insist(user: string, name: string, given: PaymentState): Promise<number> {
  for (let tries = 1; tries <= 50; tries += 1) {
    if ((await set(user, name, given)).outcome !== 'stale') return tries;
  }
  throw new Error('50 times somebody else was faster');
}

afterEach(async () => {
  expect(await drift()).toEqual([]);
});

it('50 interleavings of two partial refunds with spending: taken back once, nothing overspent', async () => {
  for (let round = 0; round < 50; round += 1) {
    const user = await newUser();
    await bonus(user, 'b', 10);
    await grant(user, 'one', 90, { A: 900 });
    const spends = [...Array(6).keys()].map((n) => () => consume(user, 15, `k${n}`));
    const refunds = [300, 600].map((refunded) => async () => {
      // Amounts are cumulative: a refund seen late must not undo the one after it.
      const read = await call('get_payment_state', { p_payment: pay(user, 'A') });
      if (read.refunded >= refunded) return null;
      return insistUp(user, refunded);
    });
    const work: (() => Promise<unknown>)[] = [...spends, ...refunds];
    // Another beginning in every round.
    const turned = [...work.slice(round % 8), ...work.slice(0, round % 8)];
    await Promise.all(turned.map((run) => run()));
    const [spent] = await database.current.query<{ total: number }>(
      `select coalesce(-sum(amount), 0)::int as total from credit_transactions where user_id = $1 and transaction_type = 'usage'`,
      [user],
    );
    const { balance, debt, remaining } = await state(user);
    expect(balance).toBe(100 - 60 - (spent?.total ?? 0));
    expect(Math.min(debt, remaining)).toBe(0);
    expect((await clawBacks(user)).reduce((sum, [, amount]) => sum + amount, 0)).toBe(-60);
  }
});

async function insistUp(user: string, refunded: number): Promise<void> {
  for (let tries = 0; tries < 50; tries += 1) {
    const read = await call('get_payment_state', { p_payment: pay(user, 'A') });
    if (read.refunded >= refunded) return;
    const { outcome } = await call('set_payment_state', {
      p_payment: pay(user, 'A'),
      p_version: read.version,
      p_paid: 900,
      p_refunded: refunded,
      p_disputed: 0,
    });
    if (outcome !== 'stale') return;
  }
  throw new Error('50 times somebody else was faster');
}

it('a refund and its grant at the same moment, 100 times: the claw-back is never lost', async () => {
  for (let round = 0; round < 100; round += 1) {
    const user = await newUser();
    const refund = () => insist(user, 'A', { paid: 500, refunded: 500 });
    const purchase = () =>
      round % 4 < 2
        ? grant(user, 'one', 50, { A: 500 })
        : // The payment among the sources alone: its row is made all the same.
          grant(user, 'one', 50, {}, { p_sources: [`payment:${pay(user, 'A')}`] });
    await Promise.all(round % 2 === 0 ? [refund(), purchase()] : [purchase(), refund()]);
    expect(await clawBacks(user)).toEqual([['clawback', -50]]);
    expect(await state(user)).toMatchObject({ balance: 0, debt: 0, remaining: 0 });
  }
});

it('a payment claimed while it was waited for is stale, also by a grant that made no row of it', async () => {
  const user = await newUser();
  await set(user, 'A', { paid: 500 });
  await grant(user, 'one', 50, {});
  const answer = await database.current.asRole('service_role', {}, async (client) => {
    // As a version of before this table does: the source alone.
    await client.query('reset role');
    await client.query('select 1 from payments where payment = $1 for update', [pay(user, 'A')]);
    const waiting = set(user, 'A', { paid: 500, refunded: 500 });
    await waitFor(async () => {
      const [row] = await database.current.query<{ n: number }>(
        `select count(*)::int as n from pg_stat_activity
         where wait_event_type = 'Lock' and query like '%set_payment_state%' and datname = current_database()`,
      );
      return row?.n === 1;
    }, 'the call to wait');
    await client.query('set local role purser_ledger');
    await client.query(
      'insert into credit_sources (source_key, user_id, entry_number) values ($1, $2, 1)',
      [`payment:${pay(user, 'A')}`, user],
    );
    return { waiting };
  });
  expect(await answer.waiting).toMatchObject({ outcome: 'stale', version: 1, refunded: 0 });
  await insist(user, 'A', { paid: 500, refunded: 500 });
  expect(await state(user)).toMatchObject({ balance: 0 });
});

it('two payments of one grant, refunded while a replay attaches them: both count', async () => {
  for (let round = 0; round < 30; round += 1) {
    const user = await newUser();
    await grant(user, 'one', 100, { A: 500 });
    await Promise.all([
      insist(user, 'B', { paid: 500, refunded: 500 }),
      insist(user, 'A', { paid: 500, refunded: 250 }),
      grant(user, 'one', 100, { A: 500, B: 500 }),
      grant(user, 'one', 100, { B: 500 }),
    ]);
    expect(await state(user)).toMatchObject({ balance: 25, debt: 0 });
  }
});

it('16 writers who read the same version: one is applied, 15 are stale', async () => {
  const user = await newUser();
  await grant(user, 'one', 50, { A: 500 });
  const answers = await concurrently(16, (n) =>
    call('set_payment_state', {
      p_payment: pay(user, 'A'),
      p_version: 1,
      p_paid: 500,
      p_refunded: 10 * (n + 1),
      p_disputed: 0,
    }),
  );
  expect(countBy(answers.map(({ outcome }) => String(outcome)))).toEqual({
    applied: 1,
    stale: 15,
  });
  const won = answers.find(({ outcome }) => outcome === 'applied');
  for (const answer of answers)
    expect(answer).toMatchObject({ version: 2, refunded: won?.refunded });
  expect(await clawBacks(user)).toEqual([['clawback', -Math.floor((50 * won?.refunded) / 500)]]);
});

it('16 writers of a payment nobody knows: one makes its row, and only who agrees is not stale', async () => {
  const user = await newUser();
  const answers = await concurrently(16, (n) =>
    call('set_payment_state', {
      p_payment: pay(user, 'A'),
      p_version: 0,
      p_paid: 500,
      p_refunded: n % 2,
      p_disputed: 0,
    }),
  );
  expect(countBy(answers.map(({ outcome }) => String(outcome)))).toEqual({
    applied: 1,
    unchanged: 7,
    stale: 8,
  });
});

it('one payment claimed by the grants of two users at once: one has it, the other is a conflict', async () => {
  for (let round = 0; round < 20; round += 1) {
    const [left, right] = [await newUser(), await newUser()];
    // Both have their entry already, and a replay attaches the payment.
    await grant(left, 'one', 50, { A: 500 });
    await grant(right, 'one', 50, { A: 500 });
    const shared = { payment: `pi_shared_${round}`, paid: 100, currency: 'usd' };
    const claim = (user: string) =>
      grant(user, 'one', 50, {}, { p_payments: [{ payment: pay(user, 'A'), paid: 500 }, shared] });
    const answers = await Promise.all([claim(left), claim(right)]);
    expect(countBy(answers.map(({ outcome }) => String(outcome)))).toEqual({
      replayed: 1,
      conflict: 1,
    });
    const [row] = await database.current.query<{ user_id: string; owner: string }>(
      `select p.user_id, s.user_id as owner from payments p
       join credit_sources s on s.source_key = 'payment:' || p.payment where p.payment = $1`,
      [shared.payment],
    );
    expect(row?.user_id).toBe(row?.owner);
  }
});
