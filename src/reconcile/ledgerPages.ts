import type Stripe from 'stripe';
import type { SettlementBase } from '../checkout/settlement.ts';
import { callStripe, isMissingAtStripe } from '../checkout/stripeErrors.ts';
import { listUnseenGrants, listUnseenSubscriptions, type UnseenGrant } from './book.ts';
import { type Suspect, unlisted } from './compare.ts';
import type { ComparedPage } from './stripePages.ts';

/** The other way round: what the ledger has and Stripe does not, in this account and mode. */

/** Each may cost calls of its own, so a page stays well below a lease. */
const PAGE = 100;

export interface LedgerPagesDeps extends SettlementBase {
  /** Whether our key is a live one. */
  livemode: boolean;
}

export interface LedgerSpan {
  runId: string | null;
  from: string;
  until: string;
  after: string | null;
  /** Ids that were met; only of a dry run, which keeps them in memory. */
  seen: ReadonlySet<string> | null;
}

/**
 * Grants whose objects the run has not met. Most of those were made before the run's window and
 * credited inside it; each is asked for by its id.
 */
export async function readGrants(deps: LedgerPagesDeps, span: LedgerSpan): Promise<ComparedPage> {
  const { entries, last, complete } = await listUnseenGrants(deps.db, { ...span, limit: PAGE });
  const unseen = entries.filter(({ keys }) => !keys.some((key) => span.seen?.has(objectOf(key))));
  const suspects: Suspect[] = [];
  for (const entry of unseen) {
    if (!(await isKnownAtStripe(deps, entry))) suspects.push(orphan(entry));
  }
  return ledgerPage(unseen.length, suspects, complete ? null : last);
}

export async function readUnlistedSubscriptions(
  deps: LedgerPagesDeps,
  span: LedgerSpan,
): Promise<ComparedPage> {
  const page = await listUnseenSubscriptions(deps.db, { ...span, limit: PAGE });
  const rows = page.subscriptions.filter(({ id }) => !span.seen?.has(id));
  return ledgerPage(rows.length, rows.map(unlisted), page.complete ? null : page.last);
}

function ledgerPage(objects: number, suspects: Suspect[], next: string | null): ComparedPage {
  return { objects, suspects, seen: [], open: [], oldestUnsettled: null, next };
}

function orphan({ keys, user_id, transaction_id, amount, created_at }: UnseenGrant): Suspect {
  return {
    code: 'orphaned_grant',
    subject: keys[0] ?? `entry:${transaction_id}`,
    userId: user_id,
    detail: { transaction_id, amount, keys, created_at },
    settle: null,
    prices: null,
    created: null,
  };
}

function objectOf(key: string): string {
  return key.slice(key.indexOf(':') + 1);
}

type Retrieve = (stripe: Stripe, id: string) => Promise<unknown>;

/** By the beginning of the id. Customer balance is no object of its own; its invoice is. */
const RETRIEVE: readonly [prefix: RegExp, retrieve: Retrieve][] = [
  [/^cs_/, (stripe, id) => stripe.checkout.sessions.retrieve(id)],
  [/^in_/, (stripe, id) => stripe.invoices.retrieve(id)],
  [/^pi_/, (stripe, id) => stripe.paymentIntents.retrieve(id)],
  [/^(ch|py)_/, (stripe, id) => stripe.charges.retrieve(id)],
  [/^sub_/, (stripe, id) => stripe.subscriptions.retrieve(id)],
];

/** One of its objects is enough: the others are attached by what settles it. */
async function isKnownAtStripe(deps: LedgerPagesDeps, { keys }: UnseenGrant): Promise<boolean> {
  const foreignMode = deps.livemode ? /^cs_test_/ : /^cs_live_/;
  for (const key of keys) {
    const id = objectOf(key.replace(/^payment:balance:/, 'invoice:'));
    const retrieve = RETRIEVE.find(([prefix]) => prefix.test(id))?.[1];
    if (retrieve === undefined || foreignMode.test(id)) continue;
    try {
      await callStripe(() => retrieve(deps.stripe, id));
      return true;
    } catch (error) {
      if (!isMissingAtStripe(error)) throw error;
    }
  }
  return false;
}
