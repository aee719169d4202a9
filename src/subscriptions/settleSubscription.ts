import type Stripe from 'stripe';
import { readInvoiceLines } from '../checkout/invoiceLines.ts';
import {
  firstIntentOf,
  paymentsOfInvoice,
  readInvoicePayments,
} from '../checkout/invoicePayments.ts';
import { idOf, type SettlementBase, type SubscriptionSettlement } from '../checkout/settlement.ts';
import { callStripe } from '../checkout/stripeErrors.ts';
import type { Effect } from '../credits/effects.ts';
import { dunningEffects, isLate } from '../dunning/dunningEffect.ts';
import { grantsOfInvoice, type PaidInvoice } from './invoiceGrants.ts';
import { paymentReceipt } from './mails.ts';
import { readSubscription, type SubscriptionReading } from './readSubscription.ts';

export function createSubscriptionSettlement(deps: SettlementBase): SubscriptionSettlement {
  return {
    ofSession: (session) => effectsOfSession(deps, session),
    ofInvoice: (invoice, subscriptionId, paidAt) =>
      effectsOfInvoice(deps, invoice, subscriptionId, paidAt),
  };
}

/**
 * The subscription's own events: its state, whose customer pays for it, and, where a payment is
 * late, what its newest invoice says: the event about that may be lost.
 */
export async function effectsOfSubscription(
  deps: SettlementBase,
  subscriptionId: string,
): Promise<{ reading: SubscriptionReading; effects: Effect[] }> {
  const reading = await readSubscription(deps, subscriptionId);
  if (reading.userId === null) return { reading, effects: nobodys(reading) };
  const { subscription } = reading;
  const invoiceId = isLate(subscription) ? idOf(subscription.latest_invoice) : null;
  const invoice =
    invoiceId === null ? null : await callStripe(() => deps.stripe.invoices.retrieve(invoiceId));
  return { reading, effects: [...reading.effects, ...dunningOf(deps, reading, invoice)] };
}

/** What the reading, and an invoice read with it, say about dunning. */
function dunningOf(
  { catalogue, clock }: SettlementBase,
  { userId, planName, subscription, effects }: SubscriptionReading,
  invoice: Stripe.Invoice | null,
): Effect[] {
  if (userId === null) return [];
  const state = effects.find((effect) => effect.kind === 'subscription_state');
  const plan = state?.state.plan ?? null;
  const at = clock.now();
  return dunningEffects({ catalogue, userId, plan, planName, subscription, invoice, at });
}

async function effectsOfSession(
  deps: SettlementBase,
  session: Stripe.Checkout.Session,
): Promise<Effect[]> {
  const subscriptionId = idOf(session.subscription);
  if (subscriptionId === null) {
    return [{ kind: 'ignore', reason: 'the session has no subscription' }];
  }
  const reading = await readSubscription(deps, subscriptionId, { session });
  if (reading.userId === null) return nobodys(reading);
  return [
    ...reading.effects,
    { kind: 'checkout_state', session_id: session.id, state: 'complete' },
  ];
}

async function effectsOfInvoice(
  deps: SettlementBase,
  invoice: Stripe.Invoice,
  subscriptionId: string,
  heardAt: Date,
): Promise<Effect[]> {
  const reading = await readSubscription(deps, subscriptionId, {
    findSession: invoice.billing_reason === 'subscription_create',
    claimable: [invoice.id],
  });
  const { subscription, userId, session } = reading;
  const dunning = dunningOf(deps, reading, invoice);
  if (invoice.status !== 'paid') {
    // Nothing is lost by passing over a bill of somebody unknown; it is the payment that waits.
    return userId === null
      ? [{ kind: 'ignore', reason: `the invoice is ${invoice.status}, and nobody's we know` }]
      : [...reading.effects, ...dunning];
  }
  const { lines, effects } = await readInvoiceLines(deps, invoice);
  if (lines.length === 0) {
    return [
      ...reading.effects,
      ...effects,
      ...(reading.effects.length > 0
        ? []
        : [
            {
              kind: 'ignore',
              reason: 'no line of the invoice is in the catalogue',
            } as const,
          ]),
      ...dunning,
    ];
  }
  if (userId === null) {
    return [
      ...effects,
      {
        kind: 'park',
        waiting_for: reading.customerId,
        reason: 'the customer of the invoice is nobody we know',
      },
    ];
  }
  const payments = await readInvoicePayments(deps.stripe, invoice.id);
  const paidAt = invoice.status_transitions.paid_at;
  const paid: PaidInvoice = {
    invoice,
    subscription,
    lines,
    userId,
    sessionId:
      invoice.billing_reason === 'subscription_create' && session !== null ? session.id : null,
    paymentIntentId: firstIntentOf(payments),
    payments: paymentsOfInvoice(invoice, payments),
    paidAt: paidAt === null ? heardAt : new Date(paidAt * 1000),
    now: deps.clock.now(),
  };
  const grants = grantsOfInvoice(paid);
  return [
    ...reading.effects,
    ...effects,
    ...grants,
    ...paymentReceipt(deps.clock, paid, grants, reading.planName),
    ...dunning,
  ];
}

function nobodys({ ours, customerId }: SubscriptionReading): Effect[] {
  return ours
    ? [
        {
          kind: 'park',
          waiting_for: customerId,
          reason: 'the customer of the subscription is nobody we know',
        },
      ]
    : [{ kind: 'ignore', reason: 'no item of the subscription is a plan of the catalogue' }];
}
