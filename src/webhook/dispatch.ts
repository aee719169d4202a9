import type { Effect } from '../credits/effects.ts';
import { catalogueChanged } from './handlers/catalogue.ts';
import { sessionExpired, sessionPaid, sessionPaymentFailed } from './handlers/checkoutSession.ts';
import { customerChanged, customerDeleted } from './handlers/customer.ts';
import { subscriptionChanged, trialWillEnd } from './handlers/customerSubscription.ts';
import type { Handler, HandlerDeps } from './handlers/handler.ts';
import { invoiceChanged } from './handlers/invoice.ts';
import type { StripeEvent } from './stripeEvent.ts';

/** Every event type that is acted upon; all others are recorded and ignored. */
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
  'product.created': catalogueChanged,
  'product.updated': catalogueChanged,
  'product.deleted': catalogueChanged,
  'price.created': catalogueChanged,
  'price.updated': catalogueChanged,
  'price.deleted': catalogueChanged,
};

export interface DispatchDeps extends HandlerDeps {
  /** Whether our key is a live one; events of the other mode are not ours. */
  livemode: boolean;
}

/** What an event leads to. Nothing vanishes: what is not acted upon says why. */
export async function dispatch(deps: DispatchDeps, event: StripeEvent): Promise<Effect[]> {
  const ignored = reasonToIgnore(deps, event);
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
          ]
        : []),
    ];
  }
  const handler = Object.hasOwn(HANDLERS, event.type) ? HANDLERS[event.type] : undefined;
  if (handler === undefined) {
    return [{ kind: 'ignore', reason: `${event.type} is not acted upon` }];
  }
  if (event.objectId === null) {
    return [{ kind: 'ignore', reason: 'the event names no object' }];
  }
  return handler(deps, { ...event, objectId: event.objectId });
}

function reasonToIgnore(
  { livemode }: DispatchDeps,
  event: StripeEvent,
): { reason: string; finding?: string } | null {
  if (event.livemode !== livemode) {
    return {
      reason: `a ${event.livemode ? 'live' : 'test'} event came to a ${livemode ? 'live' : 'test'} endpoint`,
      finding: 'livemode_mixed',
    };
  }
  if (event.account !== null) {
    return { reason: `it belongs to the account ${event.account}`, finding: 'foreign_account' };
  }
  return null;
}
