import { type Context, seconds } from '../context.ts';
import { badRequest, cardError } from '../errors.ts';
import type { Metadata } from '../resources/fields.ts';
import type { InvoiceView } from '../resources/invoiceView.ts';
import type { PriceView } from '../resources/priceFactory.ts';
import {
  type ProrationBehavior,
  periodOf,
  planOf,
  type SubscriptionItemView,
  type SubscriptionView,
  withPeriod,
} from '../resources/subscriptionView.ts';
import { subscriptions } from '../tables.ts';
import { unschedule } from '../tasks.ts';
import { type Period, periodAt } from './calendar.ts';
import { tellCreated } from './draftInvoice.ts';
import { finalizeInvoice } from './finalizeInvoice.ts';
import { itemLine, priceOf } from './invoiceLines.ts';
import { checkItems, newItem, type PaymentBehavior } from './newSubscription.ts';
import { attemptPayment, settleInvoice } from './payInvoice.ts';
import { planSubscription } from './planSubscription.ts';
import { chargeRemaining, creditUnused } from './prorations.ts';
import { draftSubscriptionInvoice } from './subscriptionInvoice.ts';
import { findLiveSubscription, findSubscription, updateSubscription } from './subscriptionState.ts';

export interface ItemChange {
  readonly id?: string | undefined;
  readonly price?: PriceView | undefined;
  readonly quantity?: number | undefined;
  readonly metadata?: Metadata | undefined;
  readonly deleted?: boolean | undefined;
}

export interface SubscriptionChange {
  readonly items?: readonly ItemChange[] | undefined;
  /** `now`: a new period begins with its bill. */
  readonly anchor?: 'now' | 'unchanged' | undefined;
  /** Seconds: a trial until then. `now`: a trial ends. */
  readonly trialEnd?: number | 'now' | undefined;
  readonly prorationBehavior?: ProrationBehavior | undefined;
  /** Seconds, inside the current period. */
  readonly prorationDate?: number | undefined;
  readonly paymentBehavior?: PaymentBehavior | undefined;
  /** Whatever else changes in the same moment, told in the same event. */
  readonly fields?: Partial<SubscriptionView>;
}

/**
 * Upgrades, downgrades, other quantities, trials and new billing dates. What was paid for the rest of
 * the period is credited and the new price of the rest is charged: with the next cycle's invoice
 * (`create_prorations`), on an invoice of their own now (`always_invoice`), or not at all (`none`).
 * Another interval, a first price above 0, or `anchor: now` begins a new period, billed at once.
 * @throws ApiError
 */
export function changeSubscription(
  ctx: Context,
  id: string,
  change: SubscriptionChange,
): SubscriptionView {
  const before = findLiveSubscription(ctx, id);
  const now = seconds(ctx);
  const behavior = change.prorationBehavior ?? 'create_prorations';
  const items = nextItems(ctx, before, change.items ?? []);
  checkItems(items);
  const trialEnd = change.trialEnd === 'now' ? now : change.trialEnd;
  const trialing = trialEnd === undefined ? before.status === 'trialing' : trialEnd > now;
  const period = nextPeriod(ctx, before, items, change, trialEnd);
  const restarts = period !== null;
  const at = prorationDate(change, before, now);

  if (behavior !== 'none' && before.status !== 'trialing' && before.status !== 'paused') {
    proratePeriod(ctx, before, items, { at, restarts });
  }
  const span = period ?? periodOf(before);
  const draft: SubscriptionView = {
    ...before,
    ...(restarts ? { billing_cycle_anchor: trialing ? span.end : span.start } : {}),
    // An end that was planned for the period's end moves with it.
    ...(before.cancel_at_period_end ? { cancel_at: span.end } : {}),
    ...change.fields,
    ...(trialEnd === undefined ? {} : trialFields(before, trialEnd, now, trialing)),
    items: withPeriod({ ...before, items: { ...before.items, data: items } }, span),
  };
  const status =
    trialing && before.status !== 'trialing'
      ? ('trialing' as const)
      : !trialing && before.status === 'trialing'
        ? ('active' as const)
        : before.status;
  const extendsTrial = trialing && before.status === 'trialing';
  const bills = (restarts && !extendsTrial) || (behavior === 'always_invoice' && !trialing);
  const invoice = bills ? draftChange(ctx, draft, { restarts, trialing, at }) : null;
  const after = tellChange(ctx, before, { ...draft, status });
  planSubscription(ctx, after);
  if (!trialing) unschedule(ctx, 'trial_will_end', id);
  if (invoice) collectChange(ctx, invoice, change.paymentBehavior ?? 'allow_incomplete');
  return findSubscription(ctx, id);
}

/** The event shows the latest invoice together with what caused it. */
function tellChange(
  ctx: Context,
  before: SubscriptionView,
  draft: SubscriptionView,
): SubscriptionView {
  const { latest_invoice, discounts } = findSubscription(ctx, before.id);
  ctx.store.patch(subscriptions, before.id, {
    latest_invoice: before.latest_invoice,
    discounts: before.discounts,
  });
  const kept = draft.discounts === before.discounts ? discounts : draft.discounts;
  return updateSubscription(ctx, before.id, { ...draft, latest_invoice, discounts: kept });
}

function trialFields(
  before: SubscriptionView,
  trialEnd: number,
  now: number,
  trialing: boolean,
): Partial<SubscriptionView> {
  return {
    trial_end: trialEnd,
    trial_start: before.status === 'trialing' || !trialing ? before.trial_start : now,
  };
}

function nextItems(
  ctx: Context,
  before: SubscriptionView,
  changes: readonly ItemChange[],
): SubscriptionItemView[] {
  let items = [...before.items.data];
  changes.forEach((change, at) => {
    if (change.id === undefined) {
      if (!change.price) {
        throw badRequest(`Missing required param: items[${at}][price].`, {
          param: `items[${at}][price]`,
          code: 'parameter_missing',
        });
      }
      const given = {
        price: change.price,
        quantity: change.quantity ?? 1,
        ...(change.metadata ? { metadata: change.metadata } : {}),
      };
      items.push(newItem(ctx, before.id, given, periodOf(before)));
      return;
    }
    const present = items.find(({ id }) => id === change.id);
    if (!present) {
      throw badRequest(`No such subscription item: '${change.id}'`, {
        param: `items[${at}][id]`,
        code: 'resource_missing',
      });
    }
    if (change.deleted) {
      items = items.filter((item) => item !== present);
      return;
    }
    const price = change.price ?? present.price;
    const next: SubscriptionItemView = {
      ...present,
      price,
      plan: planOf(price),
      // Without a quantity another price starts again with one, as Stripe documents.
      quantity:
        change.quantity ??
        (change.price && change.price.id !== present.price.id ? 1 : present.quantity),
      metadata: change.metadata ?? present.metadata,
    };
    items = items.map((item) => (item === present ? next : item));
  });
  return items;
}

/** The period that begins now, or null when the current one goes on. */
function nextPeriod(
  ctx: Context,
  before: SubscriptionView,
  items: readonly SubscriptionItemView[],
  change: SubscriptionChange,
  trialEnd: number | undefined,
): Period | null {
  const now = seconds(ctx);
  const [item] = items;
  const [old] = before.items.data;
  if (!item || !old) throw new Error(`The subscription ${before.id} has no items.`);
  if (trialEnd !== undefined && trialEnd > now) return { start: now, end: trialEnd };
  const ends = trialEnd !== undefined && before.status === 'trialing';
  const { interval, interval_count } = item.plan;
  const rhythm = interval !== old.plan.interval || interval_count !== old.plan.interval_count;
  const free = totalOf(ctx, before, before.items.data) === 0;
  const starts = free && totalOf(ctx, before, items) > 0;
  const restarts =
    ends || change.anchor === 'now' || (before.status !== 'trialing' && (rhythm || starts));
  return restarts ? periodAt(now, item.plan, now) : null;
}

function totalOf(
  ctx: Context,
  subscription: SubscriptionView,
  items: readonly SubscriptionItemView[],
): number {
  return items.reduce((sum, item) => sum + priceOf(ctx, subscription, item).amount, 0);
}

function prorationDate(change: SubscriptionChange, before: SubscriptionView, now: number): number {
  const { start, end } = periodOf(before);
  const at = change.prorationDate ?? now;
  if (change.prorationDate !== undefined && (at < start || at > end)) {
    throw badRequest('The proration date must be inside the current period.', {
      param: 'proration_date',
    });
  }
  return Math.min(Math.max(at, start), end);
}

/** Credits first, then charges, item by item. A new period is charged by its own lines. */
function proratePeriod(
  ctx: Context,
  before: SubscriptionView,
  items: readonly SubscriptionItemView[],
  { at, restarts }: { at: number; restarts: boolean },
): void {
  const { start, end } = periodOf(before);
  const span = { from: at, start, end };
  for (const old of before.items.data) {
    const next = items.find(({ id }) => id === old.id);
    if (next && !restarts && sameCost(old, next)) continue;
    creditUnused(ctx, before, old, span);
    if (next && !restarts) chargeRemaining(ctx, before, next, span);
  }
  if (restarts) return;
  for (const item of items) {
    const added = !before.items.data.some(({ id }) => id === item.id);
    if (added) chargeRemaining(ctx, before, item, span);
  }
}

function sameCost(old: SubscriptionItemView, next: SubscriptionItemView): boolean {
  return old.price.id === next.price.id && old.quantity === next.quantity;
}

function draftChange(
  ctx: Context,
  subscription: SubscriptionView,
  { restarts, trialing, at }: { restarts: boolean; trialing: boolean; at: number },
): InvoiceView {
  const now = seconds(ctx);
  const lines = restarts
    ? subscription.items.data.map((item) =>
        itemLine(
          ctx,
          subscription,
          item,
          { start: item.current_period_start, end: item.current_period_end },
          trialing ? 0 : undefined,
        ),
      )
    : [];
  return draftSubscriptionInvoice(ctx, subscription, {
    reason: 'subscription_update',
    lines,
    period: { start: now, end: now },
    finalizesAt: null,
    prorationDate: at,
    withCustomerItems: false,
  });
}

function collectChange(ctx: Context, draft: InvoiceView, behavior: PaymentBehavior): void {
  tellCreated(ctx, draft.id);
  const invoice = finalizeInvoice(ctx, draft.id);
  if (invoice.amount_due === 0) {
    settleInvoice(ctx, invoice.id);
    return;
  }
  if (invoice.collection_method === 'send_invoice' || behavior === 'default_incomplete') return;
  const attempt = attemptPayment(ctx, invoice.id, { automatic: true });
  if (behavior === 'error_if_incomplete' && attempt.outcome === 'failed') {
    throw cardError(attempt.refusal, false);
  }
}
