import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { paidCharge } from './support/money.ts';
import { testSandbox } from './support/sandbox.ts';
import { type Action, createWalk, kinds } from './support/walk.ts';

/** Together 10,000 actions. */
const WALKS = 5;
const ACTIONS = 2_000;
/** The books are compared this often on the way, so that a fault is found near where it was made. */
const CHECK_EVERY = 500;

const action: fc.Arbitrary<Action> = fc.record({
  kind: fc.constantFrom(...kinds),
  pick: fc.nat(1_000_000),
  share: fc.integer({ min: 1, max: 100 }),
});

/** States every set of walks must have met: one that meets only refusals would prove nothing. */
const MET = [
  'charge.failed',
  'charge.succeeded',
  'credit_note.issued',
  'dispute.lost',
  'dispute.prevented',
  'dispute.warning_closed',
  'dispute.won',
  'credit_note.void',
  'invoice.draft',
  'invoice.open',
  'invoice.paid',
  'invoice.uncollectible',
  'invoice.void',
  'refund.canceled',
  'refund.failed',
  'refund.succeeded',
  'subscription.active',
  'subscription.canceled',
];

describe('the books of the sandbox', () => {
  it(`agree after any random walk, ${WALKS * ACTIONS} actions together`, async () => {
    const met = new Map<string, number>();
    await fc.assert(
      // A walk is named by its seed: two thousand actions in a message would help nobody.
      fc.asyncProperty(fc.integer(), async (seed) => {
        const actions = fc.sample(action, { seed, numRuns: ACTIONS });
        const walk = await createWalk();
        try {
          for (const [at, step] of actions.entries()) {
            await walk.take(step);
            if (at % CHECK_EVERY < CHECK_EVERY - 1) continue;
            const { checked, contradictions } = await walk.books();
            expect(contradictions).toEqual([]);
            expect(checked).toBeGreaterThan(at);
          }
          await walk.checkEvents();
          expect(walk.defects).toEqual([]);
          for (const [what, count] of await walk.met()) {
            met.set(what, (met.get(what) ?? 0) + count);
          }
        } finally {
          await walk.stop();
        }
      }),
      // The fixed ones meet every state of the list below; the others go where nobody has been.
      { numRuns: WALKS, endOnFailure: true, examples: [[1], [2], [3]] },
    );
    expect(MET.filter((what) => !met.has(what))).toEqual([]);
  });

  it('can be asked for by anybody who tests with the sandbox', async () => {
    const sandbox = await testSandbox();
    const { charge } = await paidCharge(sandbox, {}, { invoice_creation: { enabled: true } });
    await sandbox.stripe.refunds.create({ charge: charge.id, amount: 100 });
    const report = await sandbox.checkBooks();
    expect(report.contradictions).toEqual([]);
    expect(report.checked).toBeGreaterThan(20);
  });
});
