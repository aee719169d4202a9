import { expect, it } from '@jest/globals';
import fc from 'fast-check';
import { type PaymentState, paymentWorld } from '../support/paymentWorld.ts';
import { testDatabase } from '../support/postgres.ts';

const database = testDatabase();
const { call, pay, newUser, grant, bonus, consume, set, state, clawBacks, drift } =
  paymentWorld(database);

const HISTORIES = 50;
const STEPS_MAX = 25;

/** Two purchases of one user; what paid for each. Amounts that divide badly, on purpose. */
const PURCHASES = {
  one: { credits: 101, payments: { A: 700, B: 299, balance: 58 } },
  two: { credits: 37, payments: { C: 1001 } },
} as const;
const PAID = { A: 700, B: 299, C: 1001 };
type Payment = keyof typeof PAID;
type Purchase = keyof typeof PURCHASES;

type Step =
  | { do: 'grant'; name: Purchase; part: boolean }
  | { do: 'bonus'; credits: number }
  | { do: 'consume'; amount: number }
  | { do: 'state'; payment: Payment; refunded: number; disputed: number }
  | { do: 'repeat'; payment: Payment }
  | { do: 'late'; payment: Payment };

const payment = fc.constantFrom<Payment>('A', 'B', 'C');
const name = fc.constantFrom<Purchase>('one', 'two');
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('grant' as const), name, part: fc.boolean() }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('bonus' as const),
      credits: fc.integer({ min: 1, max: 40 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('consume' as const),
      amount: fc.integer({ min: 1, max: 60 }),
    }),
  },
  {
    weight: 6,
    arbitrary: payment.chain((which) =>
      fc.record({
        do: fc.constant('state' as const),
        payment: fc.constant(which),
        // A refund that grows or fails; a dispute over all that was opened, won or lost.
        refunded: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: PAID[which] })),
        disputed: fc.constantFrom(0, 0, PAID[which]),
      }),
    ),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('repeat' as const), payment }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('late' as const), payment }) },
);

/** The rule, written a second time: what is to be taken back of a purchase. */
function targetOf(
  purchase: { credits: number; payments: Record<string, number> },
  states: Map<string, PaymentState>,
): number {
  let settled = 0n;
  let returned = 0n;
  for (const [id, paid] of Object.entries(purchase.payments)) {
    const { refunded = 0, disputed = 0 } = states.get(id) ?? {};
    settled += BigInt(paid);
    returned += BigInt(Math.min(paid, refunded + disputed));
  }
  return Number((BigInt(purchase.credits) * (returned < settled ? returned : settled)) / settled);
}

async function clawedBy(user: string): Promise<Map<number, number>> {
  const rows = await database.current.query<{ entry: number; clawed: number }>(
    `select reverses::int as entry, -sum(amount)::int as clawed from credit_transactions
     where user_id = $1 and reverses is not null group by reverses`,
    [user],
  );
  return new Map(rows.map(({ entry, clawed }) => [entry, clawed]));
}

async function entryOf(user: string, purchase: Purchase): Promise<number> {
  const [row] = await database.current.query<{ entry: number }>(
    'select entry_number::int as entry from credit_transactions where user_id = $1 and idempotency_key = $2',
    [user, `checkout:cs_${user}_${purchase}`],
  );
  return row?.entry ?? 0;
}

/** Never: a lot overfull, credits beside debt, a settlement off its target. */
async function expectSound(user: string): Promise<void> {
  const { balance, debt, remaining, lots } = await state(user);
  expect(balance).toBe(remaining - debt);
  expect(Math.min(remaining, debt)).toBe(0);
  for (const lot of lots) expect(lot.remaining).toBeLessThanOrEqual(lot.amount);
  const [off] = await database.current.query<{ settlements: number }>(
    `select count(*)::int as settlements from purser.settlement_drift() where user_id = $1`,
    [user],
  );
  expect(off).toEqual({ settlements: 0 });
}

it('the end depends on the end amounts alone, whatever came in which order, how often', async () => {
  let seen = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: STEPS_MAX }), async (steps) => {
      const user = await newUser();
      const states = new Map<string, PaymentState>();
      const granted = { bonus: 0, spent: 0 };
      let stepsDone = 0;
      const settle = (purchase: Purchase, part: boolean) => {
        const { credits, payments } = PURCHASES[purchase];
        const known = part ? Object.entries(payments).slice(0, 1) : Object.entries(payments);
        return grant(user, purchase, credits, Object.fromEntries(known));
      };
      for (const now of steps) {
        stepsDone += 1;
        if (now.do === 'grant') await settle(now.name, now.part);
        if (now.do === 'bonus') {
          await bonus(user, `b${stepsDone}`, now.credits);
          granted.bonus += now.credits;
        }
        if (now.do === 'consume') {
          const { outcome } = await consume(user, now.amount, `k${stepsDone}`);
          if (outcome === 'applied') granted.spent += now.amount;
        }
        if (now.do === 'state') {
          const { refunded, disputed } = now;
          states.set(now.payment, { paid: PAID[now.payment], refunded, disputed });
          await set(user, now.payment, { paid: PAID[now.payment], refunded, disputed });
        }
        if (now.do === 'repeat') {
          const last = states.get(now.payment) ?? { paid: PAID[now.payment] };
          states.set(now.payment, last);
          await set(user, now.payment, last);
          expect(await set(user, now.payment, last)).toMatchObject({ outcome: 'unchanged' });
        }
        if (now.do === 'late') {
          const id = pay(user, now.payment);
          const { version, refunded } = await call('get_payment_state', { p_payment: id });
          expect(
            await call('set_payment_state', {
              p_payment: id,
              p_version: version + 1,
              p_paid: PAID[now.payment],
              p_refunded: refunded + 1,
              p_disputed: 0,
            }),
          ).toMatchObject({ outcome: 'stale', version });
        }
        await expectSound(user);
      }
      // The rest of the story arrives: both purchases, in full.
      await settle('one', false);
      await settle('two', false);
      await expectSound(user);
      const clawed = await clawedBy(user);
      let total = granted.bonus - granted.spent;
      for (const purchase of ['one', 'two'] as const) {
        const target = targetOf(PURCHASES[purchase], states);
        expect(target).toBeLessThanOrEqual(PURCHASES[purchase].credits);
        expect(clawed.get(await entryOf(user, purchase)) ?? 0).toBe(target);
        total += PURCHASES[purchase].credits - target;
      }
      expect(await state(user)).toMatchObject({ balance: total, debt: Math.max(0, -total) });
      expect(await drift()).toEqual([]);
      seen += 1;
    }),
    { numRuns: HISTORIES },
  );
  expect(seen).toBeGreaterThanOrEqual(HISTORIES);
});

it('going up step by step and down again leaves every lot and the debt as they were', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 0, max: 999 }), { minLength: 1, maxLength: 6 }),
      fc.array(fc.integer({ min: 1, max: 30 }), { maxLength: 4 }),
      fc.integer({ min: 1, max: 150 }),
      async (refunds, others, spend) => {
        const user = await newUser();
        await bonus(user, 'before', 10);
        await grant(user, 'one', 101, { A: 700, B: 299 });
        for (const [index, credits] of others.entries()) await bonus(user, `b${index}`, credits);
        await consume(user, spend, 'k');
        const before = await state(user);
        for (const refunded of [...refunds, 0]) {
          await set(user, 'A', { refunded: Math.min(700, refunded) });
          await expectSound(user);
          await set(user, 'B', { disputed: Math.max(0, refunded - 700) });
          await expectSound(user);
        }
        expect(await state(user)).toEqual(before);
        const sum = (await clawBacks(user)).reduce((total, [, amount]) => total + amount, 0);
        expect(sum).toBe(0);
        expect(await drift()).toEqual([]);
      },
    ),
    { numRuns: 30 },
  );
});
