/** Which SQL files make up the schema, and in which order. */
import { createHash } from 'node:crypto';
import { SQL_FILES } from '../generated/sql.ts';

export interface MigrationFile {
  name: string;
  sql: string;
}

/** Applied only where Supabase's roles or its auth schema are missing. */
export const STUBS_FILE = 'supabase_stubs.sql';

/** The area files in the order they build on one another; each is complete and re-runnable. */
export const AREA_FILES: readonly string[] = [
  STUBS_FILE,
  'foundation_migration.sql',
  'existing_app_migration.sql',
  'credit_transactions_migration.sql',
  'credit_expiry_migration.sql',
  'credit_mirror_migration.sql',
  'credit_grants_migration.sql',
  'credit_spending_migration.sql',
  'credit_balance_migration.sql',
  'credit_holds_migration.sql',
  'payments_migration.sql',
  'credit_corrections_migration.sql',
  'credit_explain_migration.sql',
  'credit_consistency_migration.sql',
  'credit_seals_migration.sql',
  'notifications_migration.sql',
  'alerts_migration.sql',
  'checkout_migration.sql',
  'subscriptions_migration.sql',
  'dunning_migration.sql',
  'stripe_webhook_events_migration.sql',
  'stripe_event_log_migration.sql',
  'stripe_event_replay_migration.sql',
  'cache_store_migration.sql',
  'reconciliation_migration.sql',
  'operations_migration.sql',
  'admin_migration.sql',
  'health_migration.sql',
];

/** Applied only on demand: a row in public.users for each sign-up. */
export const AUTH_TRIGGER_FILE = 'supabase_auth_trigger.sql';

export function authTriggerFile(): MigrationFile {
  return { name: AUTH_TRIGGER_FILE, sql: SQL_FILES[AUTH_TRIGGER_FILE] ?? '' };
}

/** The area files that this version of Purser carries, in order. */
export function migrationFiles(): MigrationFile[] {
  return AREA_FILES.flatMap((name) => {
    const sql = SQL_FILES[name];
    return sql === undefined ? [] : [{ name, sql }];
  });
}

/** Line ends do not count: a checkout on Windows is the same file. */
export function checksumOf(sql: string): string {
  return createHash('sha256').update(sql.replaceAll('\r\n', '\n')).digest('hex');
}
