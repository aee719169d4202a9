import type { Database, Json, MirrorRecord } from '../core/ports.ts';
import { storableJson } from '../core/storableJson.ts';
import type { Effect } from '../credits/effects.ts';
import type {
  Difference,
  Progress,
  ReconciliationFinding,
  ReconciliationRun,
  Standing,
} from './reconcile.types.ts';

/** The functions of sql/reconciliation_migration.sql, typed. */

/** An entry as one of the objects that paid for it names it. */
export interface SourceRow {
  key: string;
  user_id: string;
  transaction_id: string;
  amount: number;
  type: string;
  /** What the entry says its items were worth; null where it does not say. */
  items_credits: number | null;
  amount_total: number | null;
  currency: string | null;
  invoice_id: string | null;
  session_id: string | null;
}

interface NotedMoney {
  id: string;
  amount: number;
  status: string | null;
}

export interface PaymentRow {
  payment: string;
  version: number;
  user_id: string | null;
  paid: number;
  refunded: number;
  disputed: number;
  refunds: NotedMoney[];
  disputes: NotedMoney[];
}

export interface SubscriptionRow {
  id: string;
  user_id: string;
  status: string;
  price_id: string | null;
  plan: string | null;
  quantity: number;
  period_end: string | null;
  cancel_at_period_end: boolean;
  cancel_at: string | null;
  payment_failed: boolean;
}

/** What the ledger knows of one page of Stripe's objects. */
export interface PageBook {
  sources: Map<string, SourceRow>;
  payments: Map<string, PaymentRow>;
  subscriptions: Map<string, SubscriptionRow>;
  /** Open findings about them. */
  open: [code: string, subject: string][];
}

export async function lookUp(
  db: Database,
  keys: { sources?: string[]; payments?: string[]; subscriptions?: string[] },
): Promise<PageBook> {
  const answer = await db.rpc<{
    sources: SourceRow[];
    payments: PaymentRow[];
    subscriptions: SubscriptionRow[];
    open: [string, string][];
  }>('reconcile_lookup', {
    p_sources: keys.sources ?? [],
    p_payments: [...new Set(keys.payments ?? [])],
    p_subscriptions: keys.subscriptions ?? [],
  });
  return {
    sources: new Map(answer.sources.map((row) => [row.key, row])),
    payments: new Map(answer.payments.map((row) => [row.payment, row])),
    subscriptions: new Map(answer.subscriptions.map((row) => [row.id, row])),
    open: answer.open,
  };
}

/** How far everything was compared, and since when there is a ledger. */
export interface Extent {
  began: string;
  /** The app had users with credits before Purser: what they bought then is in them. */
  opening_balances: boolean;
  cursors: Record<string, { position: string; compared_until: string | null }>;
}

export function getExtent(db: Database): Promise<Extent> {
  return db.rpc('get_reconciliation_extent');
}

export function beginRun(
  db: Database,
  run: {
    until: string;
    since: string | undefined;
    actor: string;
    leaseSeconds: number;
    holder: string;
    resumeOnly: boolean;
  },
): Promise<
  | { outcome: 'nothing_to_resume' }
  | ({ outcome: 'begun' | 'resumed' | 'busy'; run: ReconciliationRun; fence: number } & Extent)
> {
  return db.rpc('begin_reconciliation', {
    p_until: run.until,
    p_since: run.since ?? null,
    p_actor: run.actor,
    p_lease_seconds: run.leaseSeconds,
    p_holder: run.holder,
    p_resume_only: run.resumeOnly,
  });
}

export interface SavedPage {
  progress: Progress;
  objects: number;
  stripeCalls: number;
  seen?: string[];
  fine?: [code: string, subject: string][];
  cursors?: { name: string; position: string; compared_until: string }[];
  end?: 'done' | 'released';
  error?: string | null;
}

export function saveRun(
  db: Database,
  run: { id: string; fence: number; leaseSeconds: number },
  page: SavedPage,
): Promise<{ outcome: 'saved' | 'stale'; run: ReconciliationRun }> {
  return db.rpc('save_reconciliation', {
    p_run_id: run.id,
    p_fence: run.fence,
    p_progress: page.progress as unknown as Json,
    p_objects: page.objects,
    p_stripe_calls: page.stripeCalls,
    p_seen: page.seen ?? [],
    p_fine: page.fine ?? [],
    p_cursors: page.cursors ?? [],
    p_end: page.end ?? null,
    p_error: page.error ?? null,
    p_lease_seconds: run.leaseSeconds,
  });
}

/** A finding as it is written; its outcome is what becomes of it. */
export type NewFinding = Omit<Difference, 'outcome'>;

export async function noteFinding(
  db: Database,
  by: { runId: string | null; actor: string; reason: string | null },
  finding: NewFinding,
  repaired = false,
): Promise<'repaired' | 'new' | 'seen' | 'accepted'> {
  const { outcome } = await db.rpc<{ outcome: 'repaired' | 'new' | 'seen' | 'accepted' }>(
    'note_reconciliation_finding',
    {
      p_run_id: by.runId,
      p_actor: by.actor,
      p_reason: by.reason,
      p_finding: finding as unknown as Json,
      p_repaired: repaired,
    },
    // A repeat after a lost answer would count a repair twice.
    { idempotent: !repaired },
  );
  return outcome;
}

export interface UnseenGrant {
  transaction_id: string;
  user_id: string;
  amount: number;
  created_at: string;
  keys: string[];
}

export function listUnseenGrants(
  db: Database,
  span: { runId: string | null; from: string; until: string; after: string | null; limit: number },
): Promise<{ entries: UnseenGrant[]; last: string | null; complete: boolean }> {
  return db.rpc('reconcile_unseen_grants', {
    p_run_id: span.runId,
    p_from: span.from,
    p_until: span.until,
    p_after: span.after ?? '0',
    p_limit: span.limit,
  });
}

export function listUnseenSubscriptions(
  db: Database,
  span: { runId: string | null; until: string; after: string | null; limit: number },
): Promise<{ subscriptions: SubscriptionRow[]; last: string | null; complete: boolean }> {
  return db.rpc('reconcile_unseen_subscriptions', {
    p_run_id: span.runId,
    p_until: span.until,
    p_after: span.after ?? '',
    p_limit: span.limit,
  });
}

export interface UserBook {
  user_id: string;
  email: string | null;
  balance: number;
  held: number;
  debt: number;
  version: number;
  plan: string;
  suspended: boolean;
  entries: number;
  mirror: MirrorRecord;
  customers: string[];
  sources: SourceRow[];
  subscriptions: SubscriptionRow[];
  open_findings: ReconciliationFinding[];
}

/** Null: there is no such user. */
export async function getUserBook(db: Database, userId: string): Promise<UserBook | null> {
  const { outcome, ...book } = await db.rpc<UserBook & { outcome: 'found' | 'not_found' }>(
    'get_user_book',
    { p_user_id: userId },
  );
  return outcome === 'found' ? book : null;
}

/** The user's account as it is, and as repairs would leave it; writes nothing. Null: no such user. */
export async function foreseeRepairs(
  db: Database,
  userId: string,
  repairs: { customer: string | null; effects: Effect[][] },
): Promise<{ before: Standing; after: Standing } | null> {
  const { outcome, ...standings } = await db.rpc<{
    outcome: 'found' | 'not_found';
    before: Standing;
    after: Standing;
  }>('reconcile_foresee', {
    p_user_id: userId,
    p_repairs: storableJson(repairs.effects) as Json[],
    p_customer_id: repairs.customer,
  });
  return outcome === 'found' ? standings : null;
}
