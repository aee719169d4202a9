import { add, type Context, seconds } from './context.ts';
import { chance } from './ids.ts';
import { THIN_PREFIX } from './resources/webhookEndpoints.ts';
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
  /** So many attempts are taken by the endpoint, and its answer is lost: it is sent again. */
  readonly lose_answer?: number;
}

/** Which deliveries a rule is about; all of them when nothing is said. */
interface FaultScope {
  /** Event types, e.g. `invoice.paid`; thin events are meant too. */
  readonly types?: readonly string[] | undefined;
  /** Ids of webhook endpoints. */
  readonly endpoints?: readonly string[] | undefined;
}

export interface Faults extends FaultPlan, FaultScope {
  /** How many deliveries are affected before all is well again; no end when absent. */
  readonly times?: number;
  /** From 0 to 1, decided by the delivery's id: with a seed the same ones are hit again. Default 1. */
  readonly probability?: number;
  /**
   * Nobody answers at the endpoint: every attempt fails, also of deliveries opened before. Lasts until
   * the faults are replaced, or until `down_until`.
   */
  readonly down?: boolean;
  /** Seconds of the account's clock. */
  readonly down_until?: number;
}

export type FaultsRow = {
  id: 'faults';
  object: 'sandbox.faults';
  rules: readonly Faults[];
};

export const DUPLICATES_MAX = 100;
export const REORDER_MAX = 1_000;
export const LOST_ANSWERS_MAX = 20;
export const DELAY_MAX_MS = 3_600_000;
export const FAULT_RULES_MAX = 20;

/**
 * Replaces the rules; none ends all faults. The first rule that fits a delivery and wins its chance
 * is the one that counts. Deliveries already open keep what they were given.
 */
export function setFaults(ctx: Context, rules: readonly Faults[]): readonly Faults[] {
  // A rule without a fault would only keep the next ones from their turn.
  const kept = rules.filter(isFault);
  add(ctx, faults, { id: 'faults', object: 'sandbox.faults', rules: kept }, {});
  return kept;
}

/** Whether anything goes wrong by this rule. */
export function isFault(rule: Faults): boolean {
  return Boolean(rule.down) || Object.keys(planOf(rule)).length > 0;
}

export function currentFaults(ctx: Context): readonly Faults[] {
  return ctx.store.get(faults, 'faults')?.view.rules ?? [];
}

/** The plan for one new delivery, counted against `times`. */
export function takeFaultPlan(
  ctx: Context,
  delivery: { id: string; type: string; endpoint: string },
): FaultPlan | null {
  const rules = currentFaults(ctx);
  const at = rules.findIndex(
    (rule, nth) =>
      !rule.down &&
      fits(rule, delivery) &&
      // Of its own for each rule: else one of the same probability as another before it never wins.
      chance(`${delivery.id}:${nth}`, rule.probability ?? 1),
  );
  const rule = rules[at];
  if (!rule) return null;
  if (rule.times !== undefined) {
    const left = rule.times > 1 ? [{ ...rule, times: rule.times - 1 }] : [];
    setFaults(ctx, rules.toSpliced(at, 1, ...left));
  }
  return planOf(rule);
}

/** Whether an attempt finds nobody there. */
export function isDown(ctx: Context, delivery: { type: string; endpoint: string }): boolean {
  return currentFaults(ctx).some(
    (rule) =>
      rule.down &&
      fits(rule, delivery) &&
      (rule.down_until === undefined || seconds(ctx) < rule.down_until),
  );
}

function fits(
  { types, endpoints }: FaultScope,
  { type, endpoint }: { type: string; endpoint: string },
): boolean {
  const name = type.startsWith(THIN_PREFIX) ? type.slice(THIN_PREFIX.length) : type;
  return (!types || types.includes(name)) && (!endpoints || endpoints.includes(endpoint));
}

function planOf(rule: Faults): FaultPlan {
  const { duplicate, delay_ms, drop, wrong_secret, reorder, lose_answer } = rule;
  const plan = { duplicate, delay_ms, drop, wrong_secret, reorder, lose_answer };
  return Object.fromEntries(Object.entries(plan).filter(([, value]) => value)) as FaultPlan;
}
