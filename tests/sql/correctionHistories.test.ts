import { expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { Json } from '../../src/core/ports.ts';
import { testDatabase, userId } from '../support/postgres.ts';
import { callAsService } from '../support/sqlCall.ts';

const database = testDatabase();
const call = (name: string, args: Record<string, Json | undefined>) =>
  callAsService(database.current, name, args);

const RUNS = 40;
const STEPS = 30;
const HOUR_MS = 3_600_000;

type Step =
  | { kind: 'buy'; credits: number; lasts: number | null }
  | { kind: 'spend'; amount: number }
  | { kind: 'hold'; amount: number }
  | { kind: 'giveBack'; which: number; amount: number | null }
  | { kind: 'adjust'; amount: number; debt: boolean }
  | { kind: 'payment'; which: number; refunded: number }
  | { kind: 'wait'; hours: number };

const amount = fc.integer({ min: 1, max: 30 });
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    kind: fc.constant('buy' as const),
    credits: amount,
    lasts: fc.option(fc.integer({ min: 1, max: 300 })),
  }),
  fc.record({ kind: fc.constant('spend' as const), amount }),
  fc.record({ kind: fc.constant('hold' as const), amount }),
  fc.record({ kind: fc.constant('giveBack' as const), which: fc.nat(), amount: fc.option(amount) }),
  fc.record({
    kind: fc.constant('adjust' as const),
    amount: fc.integer({ min: -30, max: 15 }).filter((n) => n !== 0),
    debt: fc.boolean(),
  }),
  fc.record({
    kind: fc.constant('payment' as const),
    which: fc.nat(),
    refunded: fc.integer({ min: 0, max: 100 }),
  }),
  fc.record({ kind: fc.constant('wait' as const), hours: fc.integer({ min: 1, max: 200 }) }),
);

it('whatever is bought, spent, held, refunded, adjusted and expires: a spend comes back once, and the books agree', async () => {
  let run = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: STEPS }), async (steps) => {
      run += 1;
      const user = userId(`history-${run}`);
      await call('ensure_user', { p_user_id: user });
      let now = Date.parse('2030-01-01T00:00:00Z');
      /** What is left to give back of each spend. */
      const spends: { id: string; left: number }[] = [];
      const payments: { id: string; version: number }[] = [];
      for (const [n, taken] of steps.entries()) {
        const args = { p_user_id: user, p_key: `k${n}`, p_now: new Date(now).toISOString() };
        switch (taken.kind) {
          case 'buy': {
            const id = `pi_${user}_${n}`;
            const expires_at =
              taken.lasts === null ? null : new Date(now + taken.lasts * HOUR_MS).toISOString();
            await call('grant_credits', {
              ...args,
              p_type: 'purchase',
              p_lots: [{ credits: taken.credits, expires_at }],
              p_payments: [{ payment: id, paid: 100, currency: 'usd' }],
            });
            payments.push({ id, version: 1 });
            break;
          }
          case 'spend': {
            const answer = await call('consume_credits', { ...args, p_amount: taken.amount });
            if (answer.outcome === 'applied') {
              spends.push({ id: answer.transaction_id, left: taken.amount });
            }
            break;
          }
          case 'hold':
            await call('hold_credits', { ...args, p_amount: taken.amount });
            break;
          case 'giveBack': {
            const spend = spends[taken.which % spends.length];
            if (spend === undefined) break;
            const wanted = taken.amount ?? spend.left;
            const answer = await call('refund_usage', {
              ...args,
              p_transaction_id: spend.id,
              p_amount: taken.amount ?? undefined,
            });
            const fits = wanted > 0 && wanted <= spend.left;
            expect(answer.outcome).toBe(fits ? 'applied' : 'exceeds_usage');
            if (fits) spend.left -= wanted;
            else expect(answer.left).toBe(spend.left);
            break;
          }
          case 'adjust':
            await call('adjust_credits', {
              ...args,
              p_amount: taken.amount,
              p_allow_debt: taken.debt,
              p_reason: 'x',
              p_actor: 'y',
            });
            break;
          case 'payment': {
            const payment = payments[taken.which % payments.length];
            if (payment === undefined) break;
            const answer = await call('set_payment_state', {
              p_payment: payment.id,
              p_version: payment.version,
              p_paid: 100,
              p_refunded: taken.refunded,
              p_disputed: 0,
              p_now: args.p_now,
            });
            expect(['applied', 'unchanged']).toContain(answer.outcome);
            payment.version = answer.version;
            break;
          }
          case 'wait':
            now += taken.hours * HOUR_MS;
            break;
          default:
            taken satisfies never;
        }
      }
      expect(
        await database.current.query(
          'select * from validate_credits_consistency() where user_id = $1',
          [user],
        ),
      ).toEqual([]);
    }),
    { numRuns: RUNS },
  );
  expect(await database.current.query('select * from validate_credits_consistency()')).toEqual([]);
});
