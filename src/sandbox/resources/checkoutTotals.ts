import { discountAmounts } from '../billing/discounts.ts';
import type { Context } from '../context.ts';
import { coupons } from '../tables.ts';
import { type Line, totalOf } from './checkoutLines.ts';
import type { SessionHidden } from './checkoutSessions.ts';

type Discounts = SessionHidden['discounts'];

/** The lines with what the session's coupons take off each. */
export function withDiscounts(ctx: Context, lines: readonly Line[], discounts: Discounts): Line[] {
  const applied = discounts.flatMap(({ coupon }) => {
    const found = ctx.store.get(coupons, coupon)?.view;
    return found ? [{ discount: { id: coupon }, coupon: found }] : [];
  });
  const taken = discountAmounts(
    lines.map(({ item }) => ({
      amount: item.amount_subtotal,
      discountable: true,
      product: item.price.product,
    })),
    applied,
  );
  return lines.map((line, at) => {
    const off = (taken[at] ?? []).reduce((sum, { amount }) => sum + amount, 0);
    const total = line.item.amount_subtotal - off;
    return { ...line, item: { ...line.item, amount_discount: off, amount_total: total } };
  });
}

/** What is paid today: in a trial only what does not recur. */
export function sumsOf(lines: readonly Line[], trialing: boolean) {
  const due = lines.filter(({ item }) => !trialing || item.price.type === 'one_time');
  const subtotal = due.reduce((sum, { item }) => sum + item.amount_subtotal, 0);
  const total = totalOf(due);
  return {
    amount_subtotal: subtotal,
    amount_total: total,
    total_details: { amount_discount: subtotal - total, amount_shipping: 0, amount_tax: 0 },
  };
}

/** True when the page asks for a way to pay, also for later. */
export function asksForMethod(
  session: { mode: string; payment_method_collection: string | null },
  due: number,
): boolean {
  return (
    due > 0 || (session.mode === 'subscription' && session.payment_method_collection === 'always')
  );
}
