import { add, type Context } from '../context.ts';
import type { Refusal } from '../resources/charges.ts';
import { nextFailures } from '../tables.ts';

/** Payments of a customer that are to fail, whatever his card is. */
export type NextFailuresRow = {
  /** The customer. */
  id: string;
  object: 'sandbox.next_failures';
  times: number;
  refusal: Refusal;
};

export function setFailures(ctx: Context, customer: string, times: number, refusal: Refusal): void {
  if (times === 0) {
    ctx.store.remove(nextFailures, customer);
    return;
  }
  add(ctx, nextFailures, { id: customer, object: 'sandbox.next_failures', times, refusal }, {});
}

/** The refusal of the payment that is being made, counted; null when it may succeed. */
export function takeFailure(ctx: Context, customer: string): Refusal | null {
  const planned = ctx.store.get(nextFailures, customer)?.view;
  if (!planned) return null;
  setFailures(ctx, customer, planned.times - 1, planned.refusal);
  return planned.refusal;
}
