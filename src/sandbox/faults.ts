import { add, type Context } from './context.ts';
import { faults } from './tables.ts';

/** What goes wrong with a delivery. All of it is decided when the delivery is opened. */
export interface FaultPlan {
  /** Extra copies sent at the same time as the first attempt. */
  readonly duplicate?: number;
  /** The first attempt waits this long. Milliseconds. */
  readonly delay_ms?: number;
  /** Never sent at all; only `resend` or the events API can bring it. */
  readonly drop?: boolean;
  /** The first attempt is signed with another secret; retries are right again. */
  readonly wrong_secret?: boolean;
  /** Held until this many have come together (or none came for a moment), then sent last one first. */
  readonly reorder?: number;
}

export interface Faults extends FaultPlan {
  /** Only deliveries of these event types; all when absent. */
  readonly types?: readonly string[];
  /** How many deliveries are affected before all is well again; no end when absent. */
  readonly times?: number;
}

export type FaultsRow = { id: 'faults'; object: 'sandbox.faults'; faults: Faults };

export const DUPLICATES_MAX = 100;
export const REORDER_MAX = 1_000;
export const DELAY_MAX_MS = 3_600_000;

/** Replaces the faults; `{}` ends them. Deliveries already open keep what they were given. */
export function setFaults(ctx: Context, next: Faults): Faults {
  add(ctx, faults, { id: 'faults', object: 'sandbox.faults', faults: next }, {});
  return next;
}

export function currentFaults(ctx: Context): Faults {
  return ctx.store.get(faults, 'faults')?.view.faults ?? {};
}

/** The plan for one new delivery, counted against `times`. */
export function takeFaultPlan(ctx: Context, eventType: string): FaultPlan | null {
  const { types, times, ...plan } = currentFaults(ctx);
  if (Object.keys(plan).length === 0 || times === 0) return null;
  if (types && !types.includes(eventType)) return null;
  if (times !== undefined) {
    setFaults(ctx, times > 1 ? { ...plan, ...(types ? { types } : {}), times: times - 1 } : {});
  }
  return plan;
}
