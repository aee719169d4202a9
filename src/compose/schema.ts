import { PurserError } from '../core/errors.ts';
import type { Database } from '../core/ports.ts';

/** The schema this version of the code was written for; see purser_schema_version in sql/. */
const SCHEMA_VERSION = 2;

/**
 * A function of each file of sql/, by which its absence is seen. The two before the ledger have none
 * of their own in public: without them it cannot be applied.
 */
export const FILE_FUNCTIONS = {
  'credit_transactions_migration.sql': 'ensure_user',
  'credit_expiry_migration.sql': 'expire_due_credits',
  'credit_mirror_migration.sql': 'list_mirror_changes',
  'credit_grants_migration.sql': 'grant_credits',
  'credit_spending_migration.sql': 'consume_credits_batch',
  'credit_balance_migration.sql': 'get_credit_balance',
  'credit_holds_migration.sql': 'hold_credits',
  'payments_migration.sql': 'set_payment_state',
  'credit_corrections_migration.sql': 'dry_run',
  'credit_explain_migration.sql': 'explain_credit_balance',
  'credit_consistency_migration.sql': 'check_changed_credits',
  'credit_seals_migration.sql': 'seal_credit_entries',
  'notifications_migration.sql': 'claim_notifications',
  'alerts_migration.sql': 'raise_alert',
  'checkout_migration.sql': 'record_checkout_session',
  'subscriptions_migration.sql': 'set_subscription_state',
  'dunning_migration.sql': 'dunning_summary',
  'stripe_webhook_events_migration.sql': 'apply_webhook_effects',
  'stripe_event_log_migration.sql': 'log_stripe_webhook_event',
  'stripe_event_replay_migration.sql': 'advance_webhook_replay',
  'cache_store_migration.sql': 'read_stripe_cache',
  'reconciliation_migration.sql': 'begin_reconciliation',
  'operations_migration.sql': 'claim_job',
  'admin_migration.sql': 'inspect_installation',
  'health_migration.sql': 'health_figures',
};

/** Rejects, with the ways to mend it, when the database lacks what this version calls. */
export async function checkSchema(db: Database): Promise<void> {
  const { version, missing } = await db.rpc<{ version: number; missing?: string[] }>(
    'purser_schema_version',
    { p_files: FILE_FUNCTIONS },
  );
  if (version >= SCHEMA_VERSION && !missing?.length) return;
  const lack = missing?.length ? ` What ${missing.join(', ')} makes is not there.` : '';
  throw new PurserError('dependency_down', {
    detail: `The database has schema version ${version}, this version of Purser needs ${SCHEMA_VERSION}.${lack} Apply the migration with \`npm run migrate\`, or paste the files of sql/ into the Supabase SQL editor, or copy them to supabase/migrations.`,
  });
}
