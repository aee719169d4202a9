import { idOf } from '../checkout/settlement.ts';
import { callStripe } from '../checkout/stripeErrors.ts';
import { PurserError } from '../core/errors.ts';
import type { Database, RpcArgs, RpcOptions } from '../core/ports.ts';
import type { Effect } from '../credits/effects.ts';
import { userNotFound } from '../credits/ledger.ts';
import { createSubscriptionSettlement } from '../subscriptions/settleSubscription.ts';
import { foreseeRepairs, getUserBook, type UserBook } from './book.ts';
import { type JudgedBy, judge } from './judge.ts';
import { politely } from './meter.ts';
import { compareCopies } from './mirrorPages.ts';
import type {
  ComparedObject,
  Difference,
  ReconciliationState,
  Standing,
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

async function settleUser(deps: RunDeps, by: JudgedBy, book: UserBook): Promise<Settled> {
  const patience = { pause: deps.pause, shouldStop: neverStop };
  const objects = await politely(patience, () => readUserObjects(deps, book));
  const { suspects, rows } = await politely(patience, () => compareUser(deps, book, objects));
  const differences: Difference[] = [];
  for (const suspect of suspects) {
    const found = await politely(patience, () => judge(deps, by, suspect));
    if (found !== null) differences.push(found);
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
      unassigned: new Set<string>(),
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
    const customer =
      subscriptionId === undefined
        ? null
        : await assign(deps, first, subscriptionId, { actor, reason, dryRun });
    const by = {
      runId: null,
      actor,
      reason,
      dryRun,
      foreseen: new Set<string>(),
      unassigned: new Set<string>(),
    };
    const answer = (differences: Difference[], standings: Pick<UserFix, 'before' | 'after'>) => ({
      user_id: first.user_id,
      dry_run: dryRun,
      differences,
      repaired: differences.filter(({ outcome }) => outcome === 'repaired').length,
      ...standings,
      stripe_calls: calls(),
    });
    if (dryRun) {
      const effects: Effect[][] = [];
      const would = customer === null ? deps : asIfLinked(deps, customer, first.user_id);
      const customers = [...first.customers, ...(customer === null ? [] : [customer])];
      const book = { ...first, customers };
      const { differences } = await settleUser(would, { ...by, repairs: effects }, book);
      const standings = await foreseeRepairs(deps.db, userId, { customer, effects });
      if (standings === null) throw userNotFound(userId);
      return answer(differences, standings);
    }
    const { differences } = await settleUser(deps, by, await bookOf(deps, userId));
    const last = await bookOf(deps, userId);
    return answer(differences, { before: standingOf(first), after: standingOf(last) });
  });
}

const standingOf = ({ balance, version }: UserBook): Standing => ({ balance, version });

/** Settles as if the customer were the user's already; only of a dry run. */
function asIfLinked(deps: RunDeps, customer: string, userId: string): RunDeps {
  const db: Database = {
    ...deps.db,
    rpc: async <T>(name: string, args?: RpcArgs, options?: RpcOptions) =>
      name === 'find_user_by_customer' && args?.p_customer_id === customer
        ? ({ user_id: userId } as T)
        : deps.db.rpc<T>(name, args, options),
  };
  return { ...deps, db, subscriptions: createSubscriptionSettlement({ ...deps, db }) };
}

/** Makes the subscription's customer the user's; not in a dry run. Answers it where it was nobody's, else null. */
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
