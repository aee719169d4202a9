import { worthOfKeptPrice } from '../checkout/invoiceLines.ts';
import { readPrice } from '../checkout/readPrice.ts';
import { findSessionOfInvoice, settleInvoice } from '../checkout/settleInvoice.ts';
import type { SettlementDeps } from '../checkout/settlement.ts';
import { settleSession } from '../checkout/settleSession.ts';
import { isMissingAtStripe } from '../checkout/stripeErrors.ts';
import { isRetryable, PurserError } from '../core/errors.ts';
import type { Json } from '../core/ports.ts';
import { storableJson } from '../core/storableJson.ts';
import {
  type AppliedEffects,
  type Effect,
  type EffectsDeps,
  followEffects,
} from '../credits/effects.ts';
import { effectsOfSubscription } from '../subscriptions/settleSubscription.ts';
import { paymentStateOf } from '../webhook/paymentState.ts';
import { lookUp, type NewFinding, noteFinding, type PageBook } from './book.ts';
import { compareSession, type Settle, type Suspect } from './compare.ts';
import type { Difference, DifferenceCode } from './reconcile.types.ts';
import { proposeRepair } from './repairs.ts';

/** Others move a payment or subscription now and then; see the same bound of the webhook. */
const READINGS_MAX = 5;

export type JudgeDeps = SettlementDeps & EffectsDeps;

/** For whom and why a difference is healed; `dryRun` writes nothing at all. */
export interface JudgedBy {
  /** Null: not a run, but a person mending one user. */
  runId: string | null;
  actor: string;
  reason: string | null;
  dryRun: boolean;
  /** What a dry run has foreseen so far: an invoice says nothing new of a session that was. */
  foreseen: Set<string>;
  /** Purchases of nobody that were told of, by each of their objects. */
  unassigned: Set<string>;
  /** Given where somebody asks what a dry run comes to: the effects of each repair are put here. */
  repairs?: Effect[][];
}

/**
 * Has a suspicion looked at by the code that settles events, and heals what that finds, under the
 * same keys. Null: there is no difference (another product of the account, or a delivery was
 * quicker). Errors: `dependency_down`.
 */
export async function judge(
  deps: JudgeDeps,
  by: JudgedBy,
  suspect: Suspect,
): Promise<Difference | null> {
  if (suspect.settle === null) return leave(deps, by, suspect, suspect.code);
  if (suspect.prices !== null && !(await concernsUs(deps, suspect.prices))) return null;
  try {
    for (let reading = 1; reading <= READINGS_MAX; reading += 1) {
      const effects = await effectsOf(deps, suspect.settle);
      const outcome = by.dryRun
        ? await foresee(deps, by, suspect, effects)
        : await heal(deps, by, suspect, effects);
      switch (outcome) {
        case 'read_again':
          continue;
        case 'nothing':
          return null;
        case 'would_repair':
          by.repairs?.push(effects);
          return { ...findingOf(withUser(suspect, effects), suspect.code), outcome };
        case 'repaired':
          return { ...findingOf(withUser(suspect, effects), suspect.code), outcome };
        case 'unassigned':
          return suspect.settle.kind === 'subscription'
            ? leave(deps, by, suspect, 'unassigned_subscription')
            : leaveUnassigned(deps, by, suspect);
        case 'conflict':
          return leave(deps, by, suspect, 'settlement_conflict');
      }
    }
    // It is being moved by deliveries all the while, so it is no difference of ours.
    return null;
  } catch (error) {
    if (!(error instanceof PurserError) || isRetryable(error)) throw error;
    if (suspect.settle.kind === 'subscription' && isMissingAtStripe(error)) {
      return leave(deps, by, suspect, 'orphaned_subscription');
    }
    return leave(deps, by, withError(suspect, error), 'settlement_failed');
  }
}

/** Notes that an object could not be settled, whatever the reason. */
export function leaveFailed(
  deps: JudgeDeps,
  by: JudgedBy,
  suspect: Suspect,
  error: PurserError,
): Promise<Difference> {
  return leave(deps, by, withError(suspect, error), 'settlement_failed');
}

/** What settles it knows whose it is, where the object itself did not say. */
function withUser(suspect: Suspect, effects: Effect[]): Suspect {
  for (const effect of effects) {
    if (effect.kind === 'grant' || effect.kind === 'subscription_state') {
      return { ...suspect, userId: effect.user_id };
    }
  }
  return suspect;
}

function withError(suspect: Suspect, error: PurserError): Suspect {
  return { ...suspect, detail: { suspected: suspect.code, error: error.message } };
}

async function effectsOf(deps: JudgeDeps, settle: Settle): Promise<Effect[]> {
  switch (settle.kind) {
    case 'session':
      return (await settleSession(deps, settle.id, settle.paidAt)).effects;
    case 'invoice':
      return settleInvoice(deps, settle.id, settle.paidAt);
    case 'payment': {
      const reading = await paymentStateOf(deps, settle.id);
      return reading.known ? reading.effects : [];
    }
    case 'subscription':
      return (await effectsOfSubscription(deps, settle.id)).effects;
  }
}

/** Whether one of these prices is worth credits, or mistaken about them. */
async function concernsUs(deps: JudgeDeps, prices: string[]): Promise<boolean> {
  for (const id of new Set(prices)) {
    const worth = worthOfKeptPrice(deps, await readPrice(deps, id));
    if (!('problem' in worth) || worth.problem !== null) return true;
  }
  return false;
}

type Judgement = 'repaired' | 'would_repair' | 'unassigned' | 'conflict' | 'nothing' | 'read_again';

async function heal(
  deps: JudgeDeps,
  by: JudgedBy,
  suspect: Suspect,
  effects: Effect[],
): Promise<Judgement> {
  if (effects.length === 0) return 'nothing';
  const applied = await deps.db.rpc<AppliedEffects & { changed: boolean }>(
    'reconcile_apply',
    {
      p_run_id: by.runId,
      p_actor: by.actor,
      p_reason: by.reason,
      p_finding: storableJson(findingOf(withUser(suspect, effects), suspect.code)) as Json,
      p_effects: storableJson(effects) as Json[],
    },
    // A repeat after a lost answer would find its own work and say that there was nothing to do.
    { idempotent: false },
  );
  if (applied.outcome === 'read_again') return 'read_again';
  await followEffects(deps, effects, applied);
  if (applied.results.some(({ outcome }) => outcome === 'conflict')) return 'conflict';
  if (applied.outcome === 'parked') return 'unassigned';
  return applied.changed ? 'repaired' : 'nothing';
}

/** What `heal` would do, from what stands in the books; writes nothing. */
async function foresee(
  deps: JudgeDeps,
  { foreseen }: JudgedBy,
  suspect: Suspect,
  effects: Effect[],
): Promise<Judgement> {
  let judgement: Judgement = 'nothing';
  /** False when something foreseen before leads to it already. */
  const isNews = (keys: string[]) => {
    const isKnown = keys.some((key) => foreseen.has(key));
    for (const key of keys) foreseen.add(key);
    return !isKnown;
  };
  for (const effect of effects) {
    if (effect.kind === 'park') return 'unassigned';
    if (effect.kind === 'payment_state') {
      const row = (await lookUp(deps.db, { payments: [effect.payment] })).payments.get(
        effect.payment,
      );
      const isSame =
        row?.paid === effect.paid &&
        row.refunded === effect.refunded &&
        row.disputed === effect.disputed;
      if (!isSame) judgement = 'would_repair';
    }
    if (effect.kind !== 'grant' && effect.kind !== 'subscription_state') continue;
    if (effect.kind === 'grant') {
      const { sources } = await lookUp(deps.db, {
        sources: [...effect.sources, ...effect.payments.map(({ payment }) => `payment:${payment}`)],
      });
      const owners = new Set([...sources.values()].map((row) => row.transaction_id));
      const users = [...sources.values()].map((row) => row.user_id);
      if (owners.size > 1 || users.some((user) => user !== effect.user_id)) return 'conflict';
      if (owners.size === 1 || !isNews(effect.sources)) continue;
    }
    const { outcome } = await deps.db.rpc<{ outcome: string }>('get_credit_balance', {
      p_user_id: effect.user_id,
    });
    if (outcome !== 'found') return 'unassigned';
    if (effect.kind === 'grant') {
      judgement = 'would_repair';
    } else if (isNews([`subscription:${effect.subscription_id}`])) {
      // On its way to a grant the state is written as well, and is no difference of its own.
      if (suspect.settle?.kind === 'subscription') judgement = 'would_repair';
    }
  }
  return judgement;
}

function findingOf(suspect: Suspect, code: DifferenceCode): NewFinding {
  const { subject, userId, detail } = suspect;
  return {
    code,
    subject,
    user_id: userId,
    detail,
    repair: proposeRepair(code, { subject, userId, detail }),
  };
}

/** A purchase of nobody is one finding, its session's, though its invoice is met as well. */
async function leaveUnassigned(
  deps: JudgeDeps,
  by: JudgedBy,
  suspect: Suspect,
): Promise<Difference | null> {
  if (by.unassigned.has(suspect.subject)) return null;
  const { settle } = suspect;
  const session =
    settle?.kind === 'invoice' ? await findSessionOfInvoice(deps.stripe, settle.id) : null;
  const [purchase = suspect] = session === null ? [] : compareSession(session, NOTHING_KNOWN);
  if (by.unassigned.has(purchase.subject)) return null;
  for (const name of [suspect.subject, purchase.subject, purchase.sameAs]) {
    if (name !== undefined) by.unassigned.add(name);
  }
  return leave(deps, by, purchase, 'unassigned_purchase');
}

const NOTHING_KNOWN: PageBook = {
  sources: new Map(),
  payments: new Map(),
  subscriptions: new Map(),
  open: [],
};

/** What is for a person. */
async function leave(
  deps: JudgeDeps,
  by: JudgedBy,
  suspect: Suspect,
  code: DifferenceCode,
): Promise<Difference> {
  const finding = findingOf(suspect, code);
  if (by.dryRun) return { ...finding, outcome: 'open' };
  const noted = await noteFinding(deps.db, by, finding);
  return { ...finding, outcome: noted === 'new' ? 'open' : noted };
}
