import type Stripe from 'stripe';
import { findBuyer } from '../checkout/buyer.ts';
import { type LineWorth, worthOfKeptPrice } from '../checkout/invoiceLines.ts';
import { type KeptPrice, readPrice } from '../checkout/readPrice.ts';
import { getRecordedSession } from '../checkout/recordedSession.ts';
import { idOf, type SettlementBase } from '../checkout/settlement.ts';
import { callStripe } from '../checkout/stripeErrors.ts';
import { readSubscriptionPeriod } from '../core/stripeFields.ts';
import type { Effect, SubscriptionSnapshot } from '../credits/effects.ts';

/** A subscription has at most 20 items at Stripe, or 500 by agreement. */
const ITEMS_MAX = 500;
const ENDED: ReadonlySet<string> = new Set(['canceled', 'incomplete_expired']);

/** What is known of it here; see get_subscription_record in sql/. `version` 0: nothing. */
interface SubscriptionRecord {
  version: number;
  user_id: string | null;
  price_id: string | null;
  plan: string | null;
  tier: string | null;
}

export interface SubscriptionReading {
  subscription: Stripe.Subscription;
  /** The session it was bought in; looked up only where it is needed. */
  session: Stripe.Checkout.Session | null;
  userId: string | null;
  customerId: string | null;
  /** False for other products of the same Stripe account. */
  ours: boolean;
  /** As the catalogue calls it; null where no item is one of ours. */
  planName: string | null;
  /** Its items that are plans. */
  planItems: Stripe.SubscriptionItem[];
  /** Its state first, then whose customer it is; empty unless it is ours and somebody's. */
  effects: Effect[];
}

/**
 * Reads a subscription as it is at Stripe now, with whose it is. What an event carries is never
 * used: events come late, twice and out of order. Errors: `dependency_down`, `not_found`.
 */
export async function readSubscription(
  deps: SettlementBase,
  subscriptionId: string,
  known: {
    session?: Stripe.Checkout.Session;
    findSession?: boolean;
    /** Objects by which somebody may have claimed it, beside the subscription and its session. */
    claimable?: string[];
  } = {},
): Promise<SubscriptionReading> {
  const { db, stripe, clock, catalogue } = deps;
  const record = await db.rpc<SubscriptionRecord>('get_subscription_record', {
    p_subscription_id: subscriptionId,
  });
  const asOf = clock.now().toISOString();
  const subscription = await callStripe(() => stripe.subscriptions.retrieve(subscriptionId));
  const plans = await readPlanItems(deps, subscription, record);
  const ours = plans.length > 0 || record.version > 0;
  const session =
    known.session ??
    (ours && (known.findSession || record.version === 0)
      ? await sessionOf(stripe, subscriptionId)
      : null);
  const customerId = idOf(subscription.customer);
  const userId = ours
    ? (record.user_id ??
      (await findBuyer(deps, {
        metadataUserId: session?.metadata?.userId,
        recordedUserId: async () =>
          session === null
            ? null
            : ((await getRecordedSession(db, session.id)).session?.user_id ?? null),
        customerId,
        subscriptionUserId: subscription.metadata.userId,
        clientReferenceId: session?.client_reference_id ?? null,
        claimable: [
          subscriptionId,
          ...(session === null ? [] : [session.id]),
          ...(known.claimable ?? []),
        ],
      })))
    : null;
  const effects: Effect[] =
    userId === null
      ? []
      : [
          {
            kind: 'subscription_state',
            user_id: userId,
            subscription_id: subscription.id,
            status: subscription.status,
            state: toSnapshot(subscription, plans),
            version: record.version,
            as_of: asOf,
            free_plan: catalogue.freePlan.id,
          },
          ...(customerId === null || ENDED.has(subscription.status)
            ? []
            : [{ kind: 'customer', customer_id: customerId, user_id: userId } as const]),
        ];
  const [main] = plans;
  return {
    subscription,
    session,
    userId,
    customerId,
    ours,
    planName: main === undefined ? null : (catalogue.entry(main.plan)?.name ?? main.plan),
    planItems: plans.map(({ item }) => item),
    effects,
  };
}

interface PlanItem {
  item: Stripe.SubscriptionItem;
  plan: string;
  tier: string;
}

async function readPlanItems(
  deps: SettlementBase,
  { id, items }: Stripe.Subscription,
  record: SubscriptionRecord,
): Promise<PlanItem[]> {
  const all = items.has_more
    ? await callStripe(() =>
        deps.stripe.subscriptionItems
          .list({ subscription: id, limit: 100 })
          .autoPagingToArray({ limit: ITEMS_MAX }),
      )
    : items.data;
  const plans: PlanItem[] = [];
  for (const item of all) {
    const price = await readPrice(deps, item.price.id);
    const worth = worthOfKeptPrice(deps, price);
    if (!('problem' in worth)) {
      if (worth.fromPlan) plans.push({ item, ...namesOf(price, worth) });
    } else if (price.id === record.price_id && record.plan !== null) {
      // Its look-up key has moved on to a newer price: whoever has this one keeps his plan.
      plans.push({ item, plan: record.plan, tier: record.tier ?? record.plan });
    }
  }
  return plans;
}

/** A plan without an entry in the catalogue is named by what its price says of itself. */
function namesOf(price: KeptPrice, { plan }: LineWorth): { plan: string; tier: string } {
  if (plan !== null) return { plan: plan.id, tier: plan.tier };
  const tier = price.metadata.tier ?? price.product.metadata.tier;
  const name = price.metadata.plan ?? tier ?? price.lookup_key ?? price.id;
  return { plan: name, tier: tier ?? name };
}

function toSnapshot(subscription: Stripe.Subscription, plans: PlanItem[]): SubscriptionSnapshot {
  const [main] = plans;
  const items = plans.length > 0 ? plans.map(({ item }) => item) : subscription.items.data;
  const period = readSubscriptionPeriod({ ...subscription, items: { data: items } });
  const { status, collection_method: collection } = subscription;
  return {
    customer_id: idOf(subscription.customer),
    price_id: (main?.item ?? subscription.items.data[0])?.price.id ?? null,
    plan: main?.plan ?? null,
    tier: main?.tier ?? null,
    quantity: main?.item.quantity ?? 1,
    period_start: toIso(period?.start ?? null),
    period_end: toIso(period?.end ?? null),
    cancel_at_period_end: subscription.cancel_at_period_end,
    cancel_at: toIso(subscription.cancel_at),
    canceled_at: toIso(subscription.canceled_at),
    ended_at: toIso(subscription.ended_at),
    trial_end: toIso(subscription.trial_end),
    collection_paused: subscription.pause_collection !== null,
    // A bill that was sent and is late is no failed payment: nobody tried to collect it.
    payment_failed:
      (status === 'past_due' || status === 'unpaid') && collection === 'charge_automatically',
    metadata: { ...subscription.metadata },
  };
}

async function sessionOf(
  stripe: Stripe,
  subscription: string,
): Promise<Stripe.Checkout.Session | null> {
  const sessions = await callStripe(() =>
    stripe.checkout.sessions.list({ subscription, limit: 1 }),
  );
  return sessions.data[0] ?? null;
}

function toIso(seconds: number | null): string | null {
  return seconds === null ? null : new Date(seconds * 1000).toISOString();
}
