import { idOf } from '../checkout/settlement.ts';
import { callStripe } from '../checkout/stripeErrors.ts';
import { PurserError } from '../core/errors.ts';
import { userNotFound } from '../credits/ledger.ts';
import { getUserBook, type UserBook } from './book.ts';
import { type JudgedBy, judge } from './judge.ts';
import { politely } from './meter.ts';
import { compareCopies } from './mirrorPages.ts';
import type {
  ComparedObject,
  Difference,
  ReconciliationState,
  UserCheck,
  UserFix,
} from './reconcile.types.ts';
import type { RunDeps } from './run.ts';
import { compareUser, readUserObjects, type UserObjects } from './userObjects.ts';

/** Stripe, ledger and mirror of one user: looked at side by side, and mended. */

const neverStop = () => false;

async function bookOf(deps: RunDeps, userId: string): Promise<UserBook> {
  const book = await getUserBook(deps.db, userId);
  if (book === null) throw userNotFound(userId);
  return book;
}

interface Settled {
  objects: UserObjects;
  rows: ComparedObject[];
  differences: Difference[];
}

/** `assigned`: a customer that is going to be the user's; only of a dry run. */
async function settleUser(
  deps: RunDeps,
  by: JudgedBy,
  book: UserBook,
  assigned: string[] = [],
): Promise<Settled> {
  const patience = { pause: deps.pause, shouldStop: neverStop };
  const objects = await politely(patience, () => readUserObjects(deps, book, assigned));
  const { suspects, rows } = await politely(patience, () => compareUser(deps, book, objects));
  const differences: Difference[] = [];
  for (const suspect of suspects) {
    const found = await politely(patience, () => judge(deps, by, suspect));
    if (found === null) continue;
    const isOwned = assigned.length > 0 && found.code.startsWith('unassigned_');
    differences.push(
      isOwned
        ? { ...found, code: suspect.code, user_id: book.user_id, outcome: 'would_repair' }
        : found,
    );
  }
  differences.push(...(await compareCopies(deps, by, [book.user_id])));
  const differing = new Set(differences.map(({ subject }) => subject));
  return {
    objects,
    rows: rows.map((row) => ({ ...row, agrees: !differing.has(row.subject) })),
    differences,
  };
}

export async function checkUser(deps: RunDeps, userId: string): Promise<UserCheck> {
  return deps.meter.count(async (calls) => {
    const book = await bookOf(deps, userId);
    const copy = await deps.redis.readMirror(book.user_id).catch((error: unknown) => {
      deps.logger.warn('The mirror could not be read for a check', { error });
      return null;
    });
    const by = {
      runId: null,
      actor: 'check',
      reason: null,
      dryRun: true,
      foreseen: new Set<string>(),
    };
    const { objects, rows, differences } = await settleUser(deps, by, book);
    const state = await deps.db.rpc<ReconciliationState>('get_reconciliation_state', {
      p_user_id: book.user_id,
    });
    const { email, balance, held, debt, version, plan, suspended, entries } = book;
    return {
      user_id: book.user_id,
      clean: differences.length === 0 && book.open_findings.length === 0,
      clean_as_of: state.clean_as_of,
      stripe: {
        customers: objects.customers,
        sessions: objects.sessions.length,
        invoices: objects.invoices.length,
        subscriptions: objects.subscriptions.length,
      },
      ledger: { email, balance, held, debt, version, plan, suspended, entries },
      mirror: copy === null ? null : { ...copy },
      mirror_agrees: !differences.some(({ subject }) => subject === `mirror:${book.user_id}`),
      objects: rows,
      differences,
      open_findings: book.open_findings,
      stripe_calls: calls(),
      checked_at: deps.clock.now().toISOString(),
    };
  });
}

export async function fixUser(
  deps: RunDeps,
  userId: string,
  request: { subscriptionId: string | undefined; dryRun: boolean; reason: string },
  actor: string,
): Promise<UserFix> {
  return deps.meter.count(async (calls) => {
    const { dryRun, reason, subscriptionId } = request;
    const first = await bookOf(deps, userId);
    const assigned =
      subscriptionId === undefined
        ? null
        : await assign(deps, first, subscriptionId, { actor, reason, dryRun });
    const by = { runId: null, actor, reason, dryRun, foreseen: new Set<string>() };
    const book = await bookOf(deps, userId);
    const { differences } = await settleUser(
      deps,
      by,
      book,
      dryRun && assigned !== null ? [assigned] : [],
    );
    const last = await bookOf(deps, userId);
    const standing = ({ balance, version }: UserBook) => ({ balance, version });
    return {
      user_id: book.user_id,
      dry_run: dryRun,
      differences,
      repaired: differences.filter(({ outcome }) => outcome === 'repaired').length,
      before: standing(first),
      after: standing(last),
      stripe_calls: calls(),
    };
  });
}

/** Makes the subscription's customer the user's. Answers it where it was nobody's, else null. */
async function assign(
  deps: RunDeps,
  book: UserBook,
  subscriptionId: string,
  { actor, reason, dryRun }: { actor: string; reason: string; dryRun: boolean },
): Promise<string | null> {
  const subscription = await callStripe(() => deps.stripe.subscriptions.retrieve(subscriptionId));
  const customer = idOf(subscription.customer);
  if (customer === null) return null;
  const mapped = await deps.db.rpc<{ user_id: string | null }>('find_user_by_customer', {
    p_customer_id: customer,
  });
  if (mapped.user_id === book.user_id) return null;
  if (mapped.user_id !== null) throw foreignSubscription(subscriptionId, customer, mapped.user_id);
  if (dryRun) return customer;
  const { outcome } = await deps.db.rpc<{ outcome: string }>('reconcile_link_customer', {
    p_user_id: book.user_id,
    p_customer_id: customer,
    p_actor: actor,
    p_reason: reason,
  });
  if (outcome === 'conflict') throw foreignSubscription(subscriptionId, customer, 'somebody else');
  return customer;
}

function foreignSubscription(subscription: string, customer: string, owner: string): PurserError {
  return new PurserError('invalid_request', {
    detail: `The subscription ${subscription} is of the customer ${customer}, who is ${owner}. Nothing was changed.`,
    extensions: {
      errors: [{ path: 'stripe_subscription_id', message: 'belongs to another user' }],
    },
  });
}
