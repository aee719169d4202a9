import type { Effect } from '../credits/effects.ts';
import { catalogueChanged } from './handlers/catalogue.ts';
import { chargeRefunded } from './handlers/charge.ts';
import { sessionExpired, sessionPaid, sessionPaymentFailed } from './handlers/checkoutSession.ts';
import { creditNoteChanged } from './handlers/creditNote.ts';
import { customerChanged, customerDeleted } from './handlers/customer.ts';
import { subscriptionChanged, trialWillEnd } from './handlers/customerSubscription.ts';
import { disputeChanged, disputeTold } from './handlers/dispute.ts';
import type { Handler, HandlerDeps } from './handlers/handler.ts';
import { invoiceChanged } from './handlers/invoice.ts';
import { paymentFailed, paymentSucceeded } from './handlers/paymentIntent.ts';
import { paymentMethodMoved } from './handlers/paymentMethod.ts';
import { refundChanged } from './handlers/refund.ts';
import type { OwnAccount } from './ownAccount.ts';
import type { StripeEvent } from './stripeEvent.ts';

/**
 * Every event type that is acted upon; all others are recorded and ignored. docs/events.md says
 * what each leads to.
 */
export const HANDLERS: Readonly<Record<string, Handler>> = {
  'checkout.session.completed': sessionPaid,
  'checkout.session.async_payment_succeeded': sessionPaid,
  'checkout.session.async_payment_failed': sessionPaymentFailed,
  'checkout.session.expired': sessionExpired,
  'customer.created': customerChanged,
  'customer.updated': customerChanged,
  'customer.deleted': customerDeleted,
  'customer.subscription.created': subscriptionChanged,
  'customer.subscription.updated': subscriptionChanged,
  'customer.subscription.deleted': subscriptionChanged,
  'customer.subscription.trial_will_end': trialWillEnd,
  'customer.subscription.paused': subscriptionChanged,
  'customer.subscription.resumed': subscriptionChanged,
  'invoice.created': invoiceChanged,
  'invoice.paid': invoiceChanged,
  'invoice.payment_succeeded': invoiceChanged,
  'invoice.payment_failed': invoiceChanged,
  'invoice.payment_action_required': invoiceChanged,
  'invoice.voided': invoiceChanged,
  'invoice.marked_uncollectible': invoiceChanged,
  'charge.refunded': chargeRefunded,
  'refund.created': refundChanged,
  'refund.updated': refundChanged,
  'refund.failed': refundChanged,
  'charge.refund.updated': refundChanged,
  'charge.dispute.created': disputeTold,
  'charge.dispute.updated': disputeChanged,
  'charge.dispute.closed': disputeTold,
  'charge.dispute.funds_withdrawn': disputeChanged,
  'charge.dispute.funds_reinstated': disputeChanged,
  'credit_note.created': creditNoteChanged,
  'credit_note.updated': creditNoteChanged,
  'credit_note.voided': creditNoteChanged,
  'payment_intent.succeeded': paymentSucceeded,
  'payment_intent.payment_failed': paymentFailed,
  'payment_method.attached': paymentMethodMoved,
  'payment_method.detached': paymentMethodMoved,
  'product.created': catalogueChanged,
  'product.updated': catalogueChanged,
  'product.deleted': catalogueChanged,
  'price.created': catalogueChanged,
  'price.updated': catalogueChanged,
  'price.deleted': catalogueChanged,
};

/**
 * Types that only say "look at it": whichever of a group is worked on, its handler reads the object
 * and writes what it is, and so says what the others of the group would.
 */
const INVOICE = [
  'invoice.created',
  'invoice.paid',
  'invoice.payment_succeeded',
  'invoice.payment_failed',
  'invoice.payment_action_required',
  'invoice.voided',
  'invoice.marked_uncollectible',
];
/** Not `deleted` and `trial_will_end`: each has a mail of its own. */
const SUBSCRIPTION = [
  'customer.subscription.created',
  'customer.subscription.updated',
  'customer.subscription.paused',
  'customer.subscription.resumed',
];
const CUSTOMER = ['customer.created', 'customer.updated'];
const REFUND = ['refund.created', 'refund.updated', 'refund.failed', 'charge.refund.updated'];
/** Not `created` and `closed`: each is written down for whoever answers the bank. */
const DISPUTE = [
  'charge.dispute.updated',
  'charge.dispute.funds_withdrawn',
  'charge.dispute.funds_reinstated',
];

/** By the type that is worked on: the types whose tidings it knows. */
const COVERED: Readonly<Record<string, readonly string[]>> = {
  ...covering(INVOICE, INVOICE),
  ...covering(
    [...SUBSCRIPTION, 'customer.subscription.deleted', 'customer.subscription.trial_will_end'],
    SUBSCRIPTION,
  ),
  ...covering(CUSTOMER, CUSTOMER),
  ...covering(REFUND, REFUND),
  ...covering([...DISPUTE, 'charge.dispute.created', 'charge.dispute.closed'], DISPUTE),
};

function covering(
  types: readonly string[],
  covered: readonly string[],
): Record<string, readonly string[]> {
  return Object.fromEntries(types.map((type) => [type, covered]));
}

const THIN_PREFIX = 'v1.';

export interface DispatchDeps extends HandlerDeps {
  /** Whether our key is a live one; events of the other mode are not ours. */
  livemode: boolean;
  /** Asked only for events that name an account. */
  ownAccount: OwnAccount;
}

/** What an event leads to. Nothing vanishes: what is not acted upon says why. */
export async function dispatch(deps: DispatchDeps, event: StripeEvent): Promise<Effect[]> {
  const ignored = await reasonToIgnore(deps, event);
  if (ignored !== null) {
    return [
      { kind: 'ignore', reason: ignored.reason },
      ...(ignored.finding
        ? [
            {
              kind: 'finding',
              code: ignored.finding,
              subject: event.id,
              user_id: null,
              detail: { event_type: event.type, reason: ignored.reason },
            } as const,
            alertOf(ignored.finding, event, ignored.reason),
          ]
        : []),
    ];
  }
  const type = factOf(event.type);
  const handler = Object.hasOwn(HANDLERS, type) ? HANDLERS[type] : undefined;
  if (handler === undefined) {
    return [{ kind: 'ignore', reason: `${event.type} is not acted upon` }];
  }
  if (event.objectId === null) return unreadable(event);
  const effects = await handler(deps, { ...event, type, objectId: event.objectId });
  const covered = COVERED[type];
  if (covered === undefined) return effects;
  const thin = covered.map((name) => `${THIN_PREFIX}${name}`);
  return [...effects, { kind: 'covers', event_types: [...covered, ...thin] }];
}

/** A thin notification tells the same as the event whose name follows its `v1.`. */
function factOf(type: string): string {
  return type.startsWith(THIN_PREFIX) ? type.slice(THIN_PREFIX.length) : type;
}

/** Something happened that we act upon, and nobody can say to what: not to be passed over. */
function unreadable(event: StripeEvent): Effect[] {
  const reason = 'the event names no object';
  return [
    {
      kind: 'finding',
      code: 'event_unreadable',
      subject: event.id,
      user_id: null,
      detail: { event_type: event.type, reason },
    },
    {
      kind: 'alert',
      code: 'event_unreadable',
      subject: event.type,
      severity: 'critical',
      title: `A Stripe event of type ${event.type} could not be read`,
      detail: `${event.id}: ${reason}. If money moved, nobody was credited for it. Look at the event in Stripe and in the event log.`,
      quiet_seconds: ALERT_QUIET_SECONDS,
    },
    { kind: 'ignore', reason },
  ];
}

/** Events come one by one: when none has come for so long, whoever sent them has stopped. */
const ALERT_QUIET_SECONDS = 24 * 3600;

type Misdirected = 'livemode_mixed' | 'foreign_account';

/** The account that an event says it is of. */
const ownerOf = ({ account, contextAccount }: StripeEvent) => account ?? contextAccount;

/** One alert for a wrong endpoint, not one for each event that comes to it. */
function alertOf(code: Misdirected, event: StripeEvent, reason: string): Effect {
  const mixed = code === 'livemode_mixed';
  return {
    kind: 'alert',
    code,
    subject: mixed ? (event.livemode ? 'live' : 'test') : (ownerOf(event) ?? ''),
    severity: mixed ? 'critical' : 'warning',
    title: mixed
      ? `Stripe sends ${event.livemode ? 'live' : 'test'} events to the wrong endpoint`
      : `Stripe sends events of another account, ${ownerOf(event)}`,
    detail: mixed
      ? `${event.id} was ignored: ${reason}. Check in Stripe which endpoint has this address, and which key STRIPE_SECRET_KEY holds.`
      : `${event.id} was ignored: ${reason}. Purser sells for one account: let the endpoint listen to events of your own account only, not of connected accounts or of an organisation.`,
    quiet_seconds: ALERT_QUIET_SECONDS,
  };
}

async function reasonToIgnore(
  deps: DispatchDeps,
  event: StripeEvent,
): Promise<{ reason: string; finding?: Misdirected } | null> {
  if (event.livemode !== deps.livemode) {
    return {
      reason: `a ${event.livemode ? 'live' : 'test'} event came to a ${deps.livemode ? 'live' : 'test'} endpoint`,
      finding: 'livemode_mixed',
    };
  }
  if (await isForeign(deps, event)) {
    return { reason: `it belongs to the account ${ownerOf(event)}`, finding: 'foreign_account' };
  }
  return null;
}

/**
 * Where nobody can say which account is ours, an event of a connected account is not: our own have no
 * `account`. One with a context may be, and is worked on: to refuse a purchase of ours would be
 * worse, and of another account's object our key reads nothing, so that it ends as a dead letter.
 */
async function isForeign({ ownAccount }: DispatchDeps, event: StripeEvent): Promise<boolean> {
  const owner = ownerOf(event);
  if (owner === null) return false;
  const own = await ownAccount();
  return own === null ? event.account !== null : owner !== own;
}
