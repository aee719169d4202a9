import { add, type Context, seconds } from '../context.ts';
import { badRequest, noSuch } from '../errors.ts';
import { emit } from '../events.ts';
import { multiply } from '../money.ts';
import { invoiceItems } from '../tables.ts';
import type { Metadata } from './fields.ts';
import type { CreditedItems, LinePricing } from './invoiceView.ts';

export type InvoiceItemView = {
  id: string;
  object: 'invoiceitem';
  amount: number;
  currency: string;
  customer: string;
  customer_account: null;
  date: number;
  description: string | null;
  discountable: boolean;
  discounts: string[];
  invoice: string | null;
  livemode: false;
  metadata: Metadata;
  net_amount: number;
  parent: {
    subscription_details: { subscription: string; subscription_item?: string };
    type: 'subscription_details';
  } | null;
  period: { end: number; start: number };
  pricing: LinePricing;
  proration: boolean;
  proration_details?: {
    credited_items: {
      invoice_line_item_details: NonNullable<CreditedItems>;
      type: 'invoice_line_items';
    } | null;
    discount_amounts: never[];
  };
  quantity: number;
  quantity_decimal: string;
  tax_rates: never[];
  test_clock: null;
};

export interface NewInvoiceItem {
  readonly customer: string;
  readonly currency: string;
  readonly amount: number;
  readonly description: string | null;
  readonly discountable: boolean;
  readonly metadata: Metadata;
  readonly period: { readonly start: number; readonly end: number };
  readonly pricing: LinePricing;
  readonly quantity: number;
  readonly invoice?: string | null;
  readonly subscription?: { readonly id: string; readonly item?: string } | null;
  readonly proration?: { readonly credited: CreditedItems } | null;
}

/** Makes the item and tells it. It waits for the customer's next invoice unless it names one. */
export function createInvoiceItem(ctx: Context, given: NewInvoiceItem): InvoiceItemView {
  const { subscription } = given;
  const { view } = add(
    ctx,
    invoiceItems,
    {
      id: ctx.newId('ii_'),
      object: 'invoiceitem',
      amount: given.amount,
      currency: given.currency,
      customer: given.customer,
      customer_account: null,
      date: seconds(ctx),
      description: given.description,
      discountable: given.discountable,
      discounts: [],
      invoice: given.invoice ?? null,
      livemode: false,
      metadata: given.metadata,
      net_amount: given.amount,
      parent: subscription
        ? {
            subscription_details: {
              subscription: subscription.id,
              ...(subscription.item === undefined ? {} : { subscription_item: subscription.item }),
            },
            type: 'subscription_details',
          }
        : null,
      period: { end: given.period.end, start: given.period.start },
      pricing: given.pricing,
      proration: given.proration != null,
      ...(given.proration
        ? {
            proration_details: {
              credited_items: given.proration.credited && {
                invoice_line_item_details: given.proration.credited,
                type: 'invoice_line_items' as const,
              },
              discount_amounts: [],
            },
          }
        : {}),
      quantity: given.quantity,
      quantity_decimal: String(given.quantity),
      tax_rates: [],
      test_clock: null,
    },
    {},
  );
  emit(ctx, 'invoiceitem.created', view);
  return view;
}

export function findInvoiceItem(ctx: Context, id: string): InvoiceItemView {
  const found = ctx.store.get(invoiceItems, id);
  if (!found) throw noSuch('invoiceitem', id, 'invoiceitem', 404);
  return found.view;
}

/** What waits for the customer's next invoice: in one currency, of one subscription or of none. */
export function pendingItems(
  ctx: Context,
  customer: string,
  currency: string,
  wants: (subscription: string | null) => boolean,
): InvoiceItemView[] {
  return ctx.store
    .lookUp(invoiceItems, 'pending', customer)
    .map(({ view }) => view)
    .filter(
      (item) =>
        item.currency === currency && wants(item.parent?.subscription_details.subscription ?? null),
    );
}

export function removeInvoiceItem(ctx: Context, item: InvoiceItemView): void {
  ctx.store.remove(invoiceItems, item.id);
  emit(ctx, 'invoiceitem.deleted', item);
}

/** @throws ApiError 400 when neither or both of them are given. */
export function amountOf(
  unit: string | undefined,
  amount: number | undefined,
  quantity: number,
): number {
  if ((unit === undefined) === (amount === undefined)) {
    throw badRequest('You must pass exactly one of amount, pricing, or price_data.', {
      param: 'amount',
    });
  }
  return unit === undefined ? (amount ?? 0) : multiply(unit, quantity);
}
