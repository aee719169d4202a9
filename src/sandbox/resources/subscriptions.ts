import { cancelNow } from '../billing/cancelSubscription.ts';
import { pauseSubscription, resumeSubscription } from '../billing/pauseSubscription.ts';
import { findLiveSubscription, findSubscription, hasEnded } from '../billing/subscriptionState.ts';
import type { Expandable } from '../expand.ts';
import { inRange, listItems, listRows, matchesFilter } from '../listing.ts';
import { expand, type Parsed, paging, required, text } from '../params.ts';
import { idOf, type Route, route } from '../route.ts';
import { discounts, invoices, paymentMethods, products, subscriptions } from '../tables.ts';
import { expandCustomer } from './customers.ts';
import { present } from './fields.ts';
import {
  cancelParams,
  createParams,
  listParams,
  pauseParams,
  resumeParams,
  updateParams,
} from './subscriptionParams.ts';
import { changeGiven, createSubscription } from './subscriptionRequests.ts';
import { type CancellationDetails, periodOf, type SubscriptionView } from './subscriptionView.ts';
export const subscriptionExpandable: Expandable = {
  customer: expandCustomer,
  default_payment_method: (ctx, view) =>
    ctx.store.get(paymentMethods, String(view.default_payment_method))?.view,
  discounts: (ctx, view) =>
    (view.discounts as string[]).map((id) => ctx.store.get(discounts, id)?.view ?? id),
  latest_invoice: (ctx, view) => ctx.store.get(invoices, String(view.latest_invoice))?.view,
};

export const subscriptionItemExpandable: Expandable = {
  'price.product': (ctx, view) => {
    const price = view.price as { product?: unknown };
    return ctx.store.get(products, String(price.product))?.view;
  },
};

type ListFilter = Parsed<typeof listParams>;

function wanted({ view }: { view: SubscriptionView }, filter: ListFilter): boolean {
  const { start, end } = periodOf(view);
  const status = filter.status ?? null;
  // Without a status Stripe leaves out what was canceled.
  const fits =
    status === null
      ? view.status !== 'canceled'
      : status === 'all' || (status === 'ended' ? hasEnded(view) : status === view.status);
  return (
    fits &&
    matchesFilter(filter.customer, view.customer) &&
    matchesFilter<string>(filter.collection_method, view.collection_method) &&
    [filter.price, filter.plan].every(
      (id) => id === undefined || view.items.data.some(({ price }) => price.id === id),
    ) &&
    inRange(start, filter.current_period_start) &&
    inRange(end, filter.current_period_end) &&
    inRange(view.created, filter.created)
  );
}

export const subscriptionRoutes: Route[] = [
  route('POST', '/v1/subscriptions', createParams, createSubscription),
  route('GET', '/v1/subscriptions', listParams, (ctx, filter) =>
    listRows(ctx, subscriptions, '/v1/subscriptions', filter, (row) => wanted(row, filter), {
      index: 'customer',
      value: filter.customer,
    }),
  ),
  route('GET', '/v1/subscriptions/:id', { expand }, (ctx, _params, ids) =>
    findSubscription(ctx, idOf(ids)),
  ),
  route('POST', '/v1/subscriptions/:id', updateParams, (ctx, given, ids) =>
    changeGiven(ctx, idOf(ids), given),
  ),
  route('DELETE', '/v1/subscriptions/:id', cancelParams, (ctx, given, ids) => {
    const before = findLiveSubscription(ctx, idOf(ids));
    return cancelNow(ctx, before.id, {
      prorate: given.prorate ?? false,
      invoiceNow: given.invoice_now ?? false,
      ...(given.cancellation_details
        ? { details: present(given.cancellation_details) as Partial<CancellationDetails> }
        : {}),
    });
  }),
  route('POST', '/v1/subscriptions/:id/pause', pauseParams, (ctx, given, ids) =>
    pauseSubscription(ctx, idOf(ids), {
      unusedTimeFrom: given.bill_for?.unused_time_from?.type ?? 'now',
      invoicing: given.invoicing_behavior ?? 'pending_invoice_item',
    }),
  ),
  route('POST', '/v1/subscriptions/:id/resume', resumeParams, (ctx, given, ids) =>
    resumeSubscription(ctx, idOf(ids), {
      anchor: given.billing_cycle_anchor?.type ?? 'now',
      prorationBehavior: given.proration_behavior ?? 'create_prorations',
      payment: given.payment_behavior ?? 'resume_on_payment_success',
    }),
  ),
  route(
    'GET',
    '/v1/subscription_items',
    { ...paging, subscription: required(text()) },
    (ctx, page) => {
      const { id, items } = findSubscription(ctx, page.subscription, 'subscription', 400);
      return listItems(items.data, `/v1/subscription_items?subscription=${id}`, page);
    },
  ),
];
