import type Stripe from 'stripe';
import type { Catalogue } from '../catalogue/catalogue.ts';
import { callStripe } from '../checkout/stripeErrors.ts';
import { type Random, retryDelaySeconds } from '../core/backoff.ts';
import { isRetryable, PurserError } from '../core/errors.ts';
import type { Clock, Database, Logger } from '../core/ports.ts';
import type { AppliedEffects, DunningEffect, Effect } from '../credits/effects.ts';
import { decideStep } from './decide.ts';
import type { DunningCase, DunningDecision, DunningStep } from './dunning.types.ts';

export interface DunningDeps {
  db: Database;
  stripe: Stripe;
  catalogue: Pick<Catalogue, 'entry' | 'dunning'>;
  /** Of the rules too, as `p_now`: Stripe's times and ours are compared, and days are what counts. */
  clock: Clock;
  logger: Logger;
  random: Random;
  /** Reads the invoice and its subscription from Stripe, and says all that follows. */
  settleInvoice(invoiceId: string, at: Date): Promise<Effect[]>;
  /** Writes it, in one transaction. */
  apply(effects: Effect[]): Promise<AppliedEffects>;
}

type LeasedCase = DunningCase & { fence: number };

/** Cases taken at a time; each costs three to five calls of Stripe. */
const BATCH = 10;
/** Far longer than those calls take with all their retries. */
const LEASE_SECONDS = 300;
/** Others move a subscription now and then; who is overtaken so often comes back later. */
const READINGS_MAX = 5;
/** So many in a row that got no answer: it is not the cases, and the others need not be tried. */
const UNANSWERED_MAX = 3;
/** A step that fails is tried again for as long as it takes, this often at the end. */
const RETRY_SECONDS_MAX = 3_600;
const ACTOR = 'job:dunning';

/** How many cases ended the run in which way; `failed`: tried again later. */
export type DunningCounts = Record<DunningDecision['action'] | 'stale' | 'failed', number>;

/**
 * Does the steps that are due, each upon a fresh reading of Stripe. A crash at any point leaves a
 * lease that runs out, and the case is read again: what was done is seen and not repeated. While
 * Stripe does not answer the steps wait. Errors: `dependency_down` of the database.
 */
export async function runDunning(
  deps: DunningDeps,
  shouldStop: () => boolean,
): Promise<DunningCounts> {
  const counts: DunningCounts = {
    settle: 0,
    mail: 0,
    postpone: 0,
    keep: 0,
    cancel: 0,
    stale: 0,
    failed: 0,
  };
  let unanswered = 0;
  while (!shouldStop()) {
    const { cases } = await deps.db.rpc<{ cases: LeasedCase[] }>(
      'claim_dunning_cases',
      {
        p_limit: BATCH,
        p_lease_seconds: LEASE_SECONDS,
        p_now: deps.clock.now().toISOString(),
      },
      // A repeat after a lost answer would take other cases and leave these to their leases.
      { idempotent: false },
    );
    for (const dunning of cases) {
      try {
        counts[await doStep(deps, dunning)] += 1;
        unanswered = 0;
      } catch (error) {
        counts.failed += 1;
        await failStep(deps, dunning, error);
        unanswered = isRetryable(error) ? unanswered + 1 : 0;
        if (unanswered === UNANSWERED_MAX) return counts;
      }
    }
    if (cases.length < BATCH) break;
  }
  return counts;
}

/** The step a case is at. */
export function stepOf({ next_step, steps }: DunningCase): DunningStep | null {
  return next_step === null ? null : (steps[next_step - 1] ?? null);
}

/** Reads Stripe and decides; writes nothing. */
export async function readAndDecide(
  deps: Pick<DunningDeps, 'settleInvoice' | 'catalogue'>,
  dunning: DunningCase,
  now: Date,
): Promise<{ effects: Effect[]; facts: DunningEffect; decision: DunningDecision }> {
  const effects = await deps.settleInvoice(dunning.invoice_id, now);
  const facts = effects.find((effect) => effect.kind === 'dunning');
  if (facts === undefined) {
    throw new PurserError('not_found', {
      detail: `Stripe says nothing that dunning understands about the invoice ${dunning.invoice_id}. Is it still an invoice of ${dunning.subscription_id}?`,
    });
  }
  const state = effects.find((effect) => effect.kind === 'subscription_state');
  const plan = state?.state.plan == null ? null : deps.catalogue.entry(state.state.plan);
  const policy = plan?.kind === 'plan' ? plan.dunning : deps.catalogue.dunning;
  const step = stepOf(dunning);
  return {
    effects,
    facts,
    decision: decideStep({ failed_at: dunning.failed_at, step }, facts, policy, now),
  };
}

async function doStep(
  deps: DunningDeps,
  dunning: LeasedCase,
): Promise<DunningDecision['action'] | 'stale'> {
  for (let reading = 1; reading <= READINGS_MAX; reading += 1) {
    const now = deps.clock.now();
    const { effects, decision } = await readAndDecide(deps, dunning, now);
    if (decision.action === 'cancel') return cancel(deps, dunning);
    const outcome = await applyWith(deps, effects, stepFor(dunning, decision));
    if (outcome === 'read_again') continue;
    if (outcome === 'applied') {
      deps.logger.info(`Dunning of invoice ${dunning.invoice_id}: ${decision.action}`, {
        case_id: dunning.case_id,
        user_id: dunning.user_id,
        reason: decision.reason,
      });
      return decision.action;
    }
    return 'stale';
  }
  throw overtaken(dunning);
}

function stepFor(
  { case_id, fence }: LeasedCase,
  decision: Exclude<DunningDecision, { action: 'cancel' }>,
): DunningEffect['step'] {
  if (decision.action === 'settle') return undefined;
  return { ...decision, case_id, fence };
}

/**
 * Ends the subscription at Stripe and then here. The intent is written first: whoever comes after a
 * crash in between finds the subscription ended, knows why, and writes what is missing. The
 * status was read a moment ago and is past due or unpaid.
 */
async function cancel(deps: DunningDeps, dunning: LeasedCase): Promise<'cancel' | 'stale'> {
  const { db, stripe, logger } = deps;
  const { case_id, fence, subscription_id, invoice_id } = dunning;
  const { outcome } = await db.rpc<{ outcome: 'applied' | 'stale' }>('begin_dunning_cancel', {
    p_case_id: case_id,
    p_fence: fence,
  });
  if (outcome === 'stale') return 'stale';
  try {
    await callStripe(() =>
      stripe.subscriptions.cancel(
        subscription_id,
        { cancellation_details: { comment: `Invoice ${invoice_id} was not paid (dunning).` } },
        // One key for each lease: a failure that Stripe keeps under a key must not be the answer for ever.
        { idempotencyKey: `purser-dunning-${case_id}-${fence}` },
      ),
    );
  } catch (error) {
    const { status } = await callStripe(() => stripe.subscriptions.retrieve(subscription_id));
    if (status !== 'canceled') throw error;
  }
  logger.warn(`Subscription ${subscription_id} is canceled: invoice ${invoice_id} was not paid`, {
    case_id,
    user_id: dunning.user_id,
  });
  for (let reading = 1; reading <= READINGS_MAX; reading += 1) {
    const effects = await deps.settleInvoice(invoice_id, deps.clock.now());
    // `unchanged`: the webhook of the cancellation was faster.
    if ((await applyWith(deps, effects, undefined)) !== 'read_again') return 'cancel';
  }
  throw overtaken(dunning);
}

async function applyWith(
  deps: DunningDeps,
  effects: Effect[],
  step: DunningEffect['step'],
): Promise<'applied' | 'unchanged' | 'read_again'> {
  const all = effects.map((effect) =>
    effect.kind === 'dunning'
      ? { ...effect, actor: ACTOR, ...(step === undefined ? {} : { step }) }
      : effect,
  );
  const applied = await deps.apply(all);
  if (applied.outcome === 'read_again') return 'read_again';
  const result = applied.results[all.findIndex(({ kind }) => kind === 'dunning')];
  return result?.outcome === 'applied' ? 'applied' : 'unchanged';
}

async function failStep(deps: DunningDeps, dunning: LeasedCase, error: unknown): Promise<void> {
  const { db, logger, random, clock } = deps;
  const delay = Math.min(
    retryDelaySeconds(dunning.failed_attempts + 1, random) ?? RETRY_SECONDS_MAX,
    RETRY_SECONDS_MAX,
  );
  logger.error(`Dunning of invoice ${dunning.invoice_id} failed and is tried again`, {
    case_id: dunning.case_id,
    user_id: dunning.user_id,
    error,
  });
  await db.rpc('fail_dunning_step', {
    p_case_id: dunning.case_id,
    p_fence: dunning.fence,
    p_error: error instanceof Error ? error.message : String(error),
    p_delay_seconds: delay,
    p_now: clock.now().toISOString(),
  });
}

function overtaken({ subscription_id }: DunningCase): PurserError {
  return new PurserError('in_progress', {
    detail: `The subscription ${subscription_id} was changed by others ${READINGS_MAX} times while its dunning step was worked on.`,
  });
}
