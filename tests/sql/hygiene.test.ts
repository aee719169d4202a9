import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { type SupabaseRole, testDatabase, userId } from '../support/postgres.ts';
import { describeWith } from '../support/requirements.ts';
import { callAsService } from '../support/sqlCall.ts';
import { migrationFilesOfFolder } from '../support/testCluster.ts';

const database = testDatabase();
const own = userId('hygienic');
const foreign = userId('stranger');

/**
 * Every table of ours: what each role is granted, and whose rows a signed-in user reads. A new
 * table fails the test below until it stands here.
 *   own    his own rows
 *   admin  all rows, if app_metadata.role is admin
 *   none   he has no grant at all
 */
const EVENT_VIEW = {
  reads: 'admin',
  service: 'delete, select, update (processed), update (retry_count)',
  view: true,
} as const;
const TABLES: Record<string, { reads: 'own' | 'admin' | 'none'; service: string; view?: true }> = {
  alerts: { reads: 'admin', service: 'select' },
  audit_events: { reads: 'admin', service: 'select' },
  cache_cleanups: { reads: 'admin', service: 'select' },
  cache_store: { reads: 'none', service: 'delete, select' },
  cache_versions: { reads: 'none', service: 'select' },
  checkout_sessions: { reads: 'own', service: 'select' },
  claim_links: { reads: 'none', service: 'select' },
  closed_accounts: { reads: 'none', service: 'select' },
  credit_grants: { reads: 'own', service: 'select' },
  credit_holds: { reads: 'own', service: 'select' },
  credit_seals: { reads: 'own', service: 'select' },
  credit_sources: { reads: 'none', service: 'select' },
  credit_transactions: { reads: 'own', service: 'select' },
  dunning_cases: { reads: 'own', service: 'select' },
  failed_webhooks: EVENT_VIEW,
  notifications: { reads: 'own', service: 'select' },
  payments: { reads: 'own', service: 'select' },
  purchase_claims: { reads: 'admin', service: 'select' },
  reconciliation_cursors: { reads: 'admin', service: 'select' },
  reconciliation_findings: { reads: 'admin', service: 'select' },
  reconciliation_runs: { reads: 'admin', service: 'select' },
  scheduled_jobs: { reads: 'admin', service: 'select' },
  stripe_customers: { reads: 'own', service: 'select' },
  stripe_event_cursors: { reads: 'admin', service: 'select' },
  stripe_events: EVENT_VIEW,
  stripe_webhook_events: {
    reads: 'admin',
    service: 'delete, select, update (processed), update (retry_count)',
  },
  stripe_webhook_logs: EVENT_VIEW,
  subscription: { reads: 'own', service: 'select' },
  subscription_cache: { reads: 'own', service: 'select' },
  subscription_usage: { reads: 'own', service: 'select' },
  subscriptions: { reads: 'own', service: 'select', view: true },
  webhook_events: EVENT_VIEW,
  webhook_replays: { reads: 'admin', service: 'select' },
};

/** Every function of ours in public: service_role calls it, nobody else. */
const FUNCTIONS = [
  'add_subscription_credits',
  'adjust_credits',
  'advance_webhook_replay',
  'apply_webhook_effects',
  'begin_dunning_cancel',
  'begin_reconciliation',
  'cache_stripe_data',
  'cancel_webhook_replay',
  'capture_hold',
  'change_dunning_case',
  'check_all_credits',
  'check_changed_credits',
  'claim_dunning_cases',
  'claim_job',
  'claim_notifications',
  'claim_parked_event',
  'claim_webhook_events',
  'cleanup_old_webhook_events',
  'clear_all_subscription_cache',
  'clear_expired_subscription_cache',
  'consume_credits',
  'consume_credits_batch',
  'count_cache_hits',
  'create_claim_link',
  'delete_old_webhook_events',
  'dry_run',
  'dunning_summary',
  'enqueue_balance_notices',
  'ensure_user',
  'expire_due_credits',
  'explain_credit_balance',
  'extend_hold',
  'fail_dunning_step',
  'fail_webhook_event',
  'find_claimed_user',
  'find_user_by_customer',
  'finish_job',
  'finish_notification',
  'forget_notifications',
  'get_admin_user',
  'get_cache_cleanup_history',
  'get_cached_stripe_data',
  'get_checkout_session',
  'get_credit_balance',
  'get_credit_balance_at',
  'get_credit_statement',
  'get_dunning_case',
  'get_event_cursor',
  'get_hold',
  'get_last_reconciliation',
  'get_mirror_records',
  'get_missed_events_state',
  'get_notification',
  'get_object_events',
  'get_or_create_stripe_customer',
  'get_payment_state',
  'get_reconciliation_extent',
  'get_reconciliation_finding',
  'get_reconciliation_run',
  'get_reconciliation_state',
  'get_subscription_cache_status',
  'get_subscription_record',
  'get_user_book',
  'get_user_subscription_state',
  'get_webhook_event',
  'get_webhook_replay',
  'grant_credits',
  'grant_free_credits',
  'health_figures',
  'hold_credits',
  'inspect_installation',
  'invalidate_stripe_cache',
  'invalidate_stripe_cache_from_webhook',
  'judge_mirror_copies',
  'keep_job',
  'link_stripe_customer',
  'list_alerts',
  'list_audit_events',
  'list_credit_transactions',
  'list_dead_letters',
  'list_dunning_cases',
  'list_jobs',
  'list_mirror_changes',
  'list_mirror_records',
  'list_notifications',
  'list_open_holds',
  'list_reconciliation_findings',
  'list_reconciliation_runs',
  'list_webhook_events',
  'list_webhook_replays',
  'log_stripe_webhook_event',
  'mark_webhook_processed',
  'move_event_cursor',
  'note_reconciliation_finding',
  'operations_metrics',
  'purser_schema_version',
  'raise_alert',
  'read_stripe_cache',
  'receive_missed_events',
  'receive_webhook_event',
  'reconcile_apply',
  'reconcile_foresee',
  'reconcile_link_customer',
  'reconcile_lookup',
  'reconcile_unseen_grants',
  'reconcile_unseen_subscriptions',
  'record_checkout_session',
  'record_earlier_purchase',
  'record_mirror_drift',
  'refund_usage',
  'release_hold',
  'requeue_parked_events',
  'requeue_webhook_events',
  'resolve_alert',
  'resolve_quiet_alerts',
  'resolve_reconciliation_finding',
  'retry_failed_webhooks',
  'retry_notification',
  'run_sql_job',
  'save_reconciliation',
  'seal_credit_entries',
  'search_users',
  'set_payment_state',
  'set_subscription_state',
  'sync_user_credits',
  'update_subscription_cache',
  'use_claim_link',
  'use_credits_validated',
  'validate_credits_consistency',
  'validate_credits_consistency_since',
  'validate_user_credits',
  'verify_credit_chain',
];

const WALKERS: [string, SupabaseRole, Record<string, unknown>][] = [
  ['anon', 'anon', {}],
  ['a user', 'authenticated', { sub: own }],
  ['another user', 'authenticated', { sub: foreign }],
  ['an admin', 'authenticated', { sub: userId('administrator'), app_metadata: { role: 'admin' } }],
  ['service_role', 'service_role', {}],
];

/** Opens a case of dunning. */
function failedInvoice(user: string) {
  return {
    kind: 'dunning',
    user_id: user,
    subscription_id: `sub_${user}`,
    customer_id: `cus_${user}`,
    at: '2026-11-21T10:00:00Z',
    plan_name: 'Team',
    schedule: [{ day: 0, action: 'mail', urgency: 'first' }],
    subscription: { status: 'past_due' },
    invoice: {
      id: `in_${user}`,
      verdict: 'failing',
      failed_at: '2026-11-21T10:00:00Z',
      attempt_count: 1,
      amount: 999,
      currency: 'usd',
    },
  };
}

/** Rows a statement gives, or the SQLSTATE with which it fails; nothing stays. */
async function attempt(
  role: SupabaseRole,
  claims: Record<string, unknown>,
  sql: string,
): Promise<number | string> {
  const undone = new Error('undone');
  let rows = 0;
  try {
    await database.current.asRole(role, claims, async (client) => {
      rows = (await client.query(sql)).rows.length;
      throw undone;
    });
  } catch (error) {
    if (error !== undone) return String((error as { code?: string }).code);
  }
  return rows;
}

beforeAll(async () => {
  for (const user of [own, foreign]) {
    const call = (name: string, args: Parameters<typeof callAsService>[2]) =>
      callAsService(database.current, name, { p_user_id: user, ...args });
    await call('ensure_user', { p_stripe_customer_id: `cus_${user}` });
    await call('grant_credits', {
      p_type: 'purchase',
      p_key: `checkout:cs_${user}`,
      p_sources: [`checkout:cs_${user}`],
      p_payments: [{ payment: `pi_${user}`, paid: 500, currency: 'usd' }],
      p_lots: [{ credits: 50 }],
    });
    await call('record_checkout_session', {
      p_session_id: `cs_${user}`,
      p_customer_id: `cus_${user}`,
      p_mode: 'payment',
      p_catalogue_id: 'pack_50',
      p_price_id: 'price_1',
      p_quantity: 1,
      p_credits: 50,
      p_expires_at: '2999-01-01T00:00:00Z',
    });
    await call('hold_credits', { p_amount: 1, p_key: '1' });
    await call('set_subscription_state', {
      p_subscription_id: `sub_${user}`,
      p_status: 'active',
      p_state: { plan: 'team' },
    });
    await call('get_user_subscription_state', {});
    await callAsService(database.current, 'apply_webhook_effects', {
      p_event_id: null,
      p_fence: null,
      p_effects: [failedInvoice(user)],
    });
  }
  await callAsService(database.current, 'cache_stripe_data', {
    p_cache_key: 'stripe:prices',
    p_data: {},
  });
  await callAsService(database.current, 'read_stripe_cache', { p_cache_key: 'stripe:prices' });
  await callAsService(database.current, 'ensure_user', { p_user_id: userId('leaver') });
  await database.current.query(`delete from users where id = '${userId('leaver')}'`);
  await callAsService(database.current, 'clear_expired_subscription_cache', {});
  await callAsService(database.current, 'claim_job', { p_name: 'x', p_lease_seconds: 1 });
  await callAsService(database.current, 'receive_webhook_event', {
    p_event_id: 'evt_1',
    p_event_type: 'x',
    p_object_id: null,
    p_order_key: null,
    p_event_created_at: null,
    p_payload: {},
  });
  await database.current.query(
    `update stripe_webhook_events set status = 'dead' where stripe_event_id = 'evt_1'`,
  );
  await callAsService(database.current, 'get_event_cursor', { p_name: 'x', p_overlap_seconds: 1 });
  await callAsService(database.current, 'begin_reconciliation', {
    p_until: '2026-01-01T00:00:00Z',
  });
  await database.current.query(`begin; set local role purser_ledger;
    insert into webhook_replays (actor, filter, matched) values ('x', '{}', 1);
    insert into purchase_claims (object_id, user_id, event_id, claimed_by) values ('x', 'y', 'z', 'x');
    insert into claim_links (token_hash, event_id, created_by, expires_at) values ('x', 'y', 'z', now());
    reset role; commit`);
  await callAsService(database.current, 'apply_webhook_effects', {
    p_event_id: null,
    p_fence: null,
    p_effects: [
      { kind: 'finding', code: 'x', subject: 'y' },
      ...[own, foreign].map((user) => ({
        kind: 'notify',
        key: `x:${user}`,
        notification: 'low_balance',
        user_id: user,
        data: {},
      })),
    ],
  });
  await callAsService(database.current, 'raise_alert', { p_alert: { code: 'x', title: 'y' } });
  while ((await callAsService(database.current, 'seal_credit_entries', {})).more) {}
});

describe('the lists in this file', () => {
  it('name every table and every function of ours', async () => {
    const tables = await database.current.query(
      `select relname as name from pg_class where relowner = 'purser_ledger'::regrole
       and relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm') order by 1`,
    );
    expect(tables.map(({ name }) => name)).toEqual(Object.keys(TABLES));
    const functions = await database.current.query(
      `select proname as name from pg_proc where proowner = 'purser_ledger'::regrole
       and pronamespace = 'public'::regnamespace order by 1`,
    );
    expect(functions.map(({ name }) => name)).toEqual(FUNCTIONS);
  });

  it('name tables that each have a file making room for them, where an app has its own', () => {
    const rooms = migrationFilesOfFolder().flatMap(({ sql }) => [
      ...sql.matchAll(/call purser\.make_room\(\s*array\[([^\]]*)\]/g),
    ]);
    const named = rooms.flatMap(([, list]) => [...(list ?? '').matchAll(/'(\w+)'/g)]);
    // A view is a convenience: where an app has that name, it is not made (see the event log).
    const tables = Object.keys(TABLES).filter((name) => !TABLES[name]?.view);
    expect(named.map(([, name]) => name).sort()).toEqual(tables);
  });

  it('name functions that the file which makes them makes room for, whatever the arguments of the app’s', () => {
    const made: string[] = [];
    for (const { name: file, sql } of migrationFilesOfFolder()) {
      const room = /call purser\.make_room\(([^;]*)\);/.exec(sql)?.[1] ?? '';
      for (const [, name = ''] of sql.matchAll(/create or replace function public\.(\w+)\(/g)) {
        made.push(name);
        if (!room.includes(`'${name}'`)) throw new Error(`${file} makes no room for ${name}`);
      }
    }
    expect([...new Set(made)].sort()).toEqual(FUNCTIONS);
  });
});

describe.each(WALKERS)('%s', (who, role, claims) => {
  it.each(Object.entries(TABLES))('reads of %s what is his to read', async (table, { reads }) => {
    const [count] = await database.current.query<{ n: number; mine: number }>(
      reads === 'own'
        ? `select count(*)::int as n, count(*) filter (where user_id = '${claims.sub ?? ''}')::int as mine from ${table}`
        : `select count(*)::int as n, 0 as mine from ${table}`,
    );
    expect(count?.n).toBeGreaterThan(0);
    const expected = {
      anon: '42501',
      service_role: count?.n,
      authenticated:
        reads === 'none'
          ? '42501'
          : reads === 'own'
            ? count?.mine
            : who === 'an admin'
              ? count?.n
              : 0,
    }[role];
    expect(await attempt(role, claims, `select * from ${table}`)).toBe(expected);
  });

  it.each(Object.keys(TABLES))('writes nothing to %s that is not granted to him', async (table) => {
    const [held] = await database.current.query(
      `with may as (
         select p as privilege, null as column_name from unnest(array['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger']) p
         where has_table_privilege($1, $2::regclass, p)
         union all
         select p, a.attname from unnest(array['select', 'insert', 'update', 'references']) p
         join pg_attribute a on a.attrelid = $2::regclass and a.attnum > 0 and not a.attisdropped
         where not has_table_privilege($1, $2::regclass, p) and has_column_privilege($1, $2::regclass, a.attname, p))
       select coalesce(string_agg(privilege || coalesce(' (' || column_name || ')', ''), ', '
         order by privilege, column_name), '') as privileges from may`,
      [role, `public.${table}`],
    );
    const expected = {
      anon: '',
      authenticated: TABLES[table]?.reads === 'none' ? '' : 'select',
      service_role: TABLES[table]?.service,
    }[role];
    expect(held).toEqual({ privileges: expected });
  });

  it.each(FUNCTIONS)('calls %s only as service_role', async (name) => {
    const [call] = await database.current.query<{ sql: string }>(
      `select format('select * from public.%I(%s)', proname, (
         select string_agg('null::' || format_type(t, null), ', ' order by i)
         from unnest(proargtypes::oid[]) with ordinality a(t, i) where i <= pronargs)) as sql
       from pg_proc where proname = $1 and pronamespace = 'public'::regnamespace`,
      [name],
    );
    const outcome = await attempt(role, claims, call?.sql ?? '');
    if (role === 'service_role') expect(outcome).not.toBe('42501');
    else expect(outcome).toBe('42501');
  });

  it('reaches nothing in the schema purser', async () => {
    const reached = await database.current.query(
      `select p.oid::regprocedure::text as name from pg_proc p
       where p.pronamespace = 'purser'::regnamespace and has_function_privilege($1, p.oid, 'execute')
       union all
       select c.oid::regclass::text from pg_class c
       where c.relnamespace = 'purser'::regnamespace and c.relkind in ('r', 'v', 'S')
         and has_table_privilege($1, c.oid, 'select, insert, update, delete, truncate')
       union all
       select 'the schema' where has_schema_privilege($1, 'purser', 'usage, create')`,
      [role],
    );
    expect(reached).toEqual([]);
  });
});

describe('the rows of users', () => {
  it.each(WALKERS)('%s', async (_who, role, claims) => {
    const [all] = await database.current.query<{ n: number }>(
      'select count(*)::int as n from users',
    );
    const mine = claims.sub === own || claims.sub === foreign ? 1 : 0;
    expect(await attempt(role, claims, 'select * from users')).toBe(
      { anon: '42501', authenticated: mine, service_role: all?.n }[role],
    );
  });
});

describe('the build', () => {
  const none = async (sql: string) => expect(await database.current.query(sql)).toEqual([]);
  const OURS = `c.relowner = 'purser_ledger'::regrole`;

  it('grants nothing by default: no function to PUBLIC, and each object has its own list', async () => {
    await none(`select p.oid::regprocedure::text from pg_proc p
      where p.proowner = 'purser_ledger'::regrole and (p.proacl is null or exists (
        select from aclexplode(p.proacl) a where a.grantee = 0
          or a.grantee in ('anon'::regrole, 'authenticated'::regrole)))`);
    await none(`select c.oid::regclass::text from pg_class c
      where ${OURS} and c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and c.relacl is null`);
  });

  it('fixes the search_path of every function and procedure, the private ones too', async () => {
    await none(`select p.oid::regprocedure::text from pg_proc p
      where p.proowner = 'purser_ledger'::regrole and not coalesce(p.proconfig, '{}') @> array['search_path=""']`);
  });

  it('has row level security on every table, with policies that name roles', async () => {
    await none(`select c.oid::regclass::text from pg_class c
      where ${OURS} and c.relnamespace = 'public'::regnamespace and c.relkind = 'r'
        and (not c.relrowsecurity or not exists (select from pg_policy p where p.polrelid = c.oid))`);
    await none(`select p.polname from pg_policy p join pg_class c on c.oid = p.polrelid
      where ${OURS} and 0 = any (p.polroles)`);
    await none(`select c.oid::regclass::text, p.polcmd, r from pg_policy p join pg_class c on c.oid = p.polrelid,
        unnest(p.polroles) r
      where ${OURS} and p.polpermissive group by 1, 2, 3 having count(*) > 1`);
  });

  it('asks for the token once a statement, not once a row', async () => {
    const policies = await database.current.query<{ expression: string }>(
      `select pg_get_expr(coalesce(polqual, polwithcheck), polrelid) as expression from pg_policy
       where pg_get_expr(coalesce(polqual, polwithcheck), polrelid) like '%auth.%'`,
    );
    expect(policies.length).toBeGreaterThan(5);
    for (const { expression } of policies) {
      expect(expression.replaceAll(/\( SELECT auth\.\w+\(\) AS \w+\)/g, '')).not.toContain('auth.');
    }
  });

  it('has an index for every foreign key, a primary key on every table, and no index twice', async () => {
    await none(`select k.conrelid::regclass::text, k.conname from pg_constraint k join pg_class c on c.oid = k.conrelid
      where k.contype = 'f' and ${OURS} and not exists (
        select from pg_index i where i.indrelid = k.conrelid and i.indkey[0] = k.conkey[1])`);
    await none(`select c.oid::regclass::text from pg_class c
      where ${OURS} and c.relkind = 'r' and not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary)`);
    await none(`select array_agg(i.indexrelid::regclass::text) from pg_index i join pg_class c on c.oid = i.indrelid
      where ${OURS} or c.oid = 'public.users'::regclass
      group by i.indrelid, i.indkey::text, i.indclass::text, i.indoption::text,
        pg_get_expr(i.indexprs, i.indrelid), pg_get_expr(i.indpred, i.indrelid) having count(*) > 1`);
  });
});

describe('at 20,000 rows', () => {
  beforeAll(async () => {
    await database.current.query(`begin; set local role purser_ledger;
      insert into credit_transactions (user_id, entry_number, transaction_type, amount, balance_after, held_after,
        available_after, version, idempotency_key, event_at, created_at)
      select 'u' || n % 200, n / 200 + 1, 'bonus', 1, 1, 0, 1, 1, 'k' || n, now(), now() from generate_series(0, 19999) n;
      insert into credit_grants (user_id, entry_number, amount, remaining, paid, created_at)
      select 'u' || n % 200, 1, 1, 1, false, now() from generate_series(0, 19999) n;
      insert into stripe_customers (customer_id, user_id) select 'cus_' || n, 'u' || n % 200 from generate_series(0, 19999) n;
      insert into checkout_sessions (session_id, user_id, mode, catalogue_id, price_id, quantity, credits, expires_at)
      select 'cs_' || n, 'u' || n % 200, 'payment', 'p', 'p', 1, 1, now() from generate_series(0, 19999) n;
      reset role; commit`);
    for (const table of [...Object.keys(TABLES), 'users']) {
      await database.current.query(`analyze ${table}`);
    }
  });

  it.each([
    'select * from credit_transactions',
    'select * from credit_transactions order by entry_number desc limit 50',
    'select * from credit_grants',
    'select * from stripe_customers',
    'select * from checkout_sessions order by created_at desc',
  ])("a user's own rows come from an index: %s", async (sql) => {
    const plan = await database.current.asRole('authenticated', { sub: 'u7' }, async (client) =>
      (await client.query(`explain ${sql}`)).rows.map((row) => row['QUERY PLAN']).join('\n'),
    );
    expect(plan).toMatch(/Index Cond: .*user_id =/);
    expect(plan).not.toContain('Seq Scan');
  });
});

describeWith('supabase', "Supabase's own advisors", (cli) => {
  it('find nothing, but indexes that nobody has used yet', async () => {
    const { stdout } = await promisify(execFile)(
      cli,
      [
        'db',
        'advisors',
        `--remote=${database.current.connectionString}`,
        '--level',
        'info',
        '--fail-on',
        'none',
        '--output-format',
        'json',
      ],
      { env: { ...process.env, DO_NOT_TRACK: '1' }, timeout: 120_000, maxBuffer: 16 * 1024 * 1024 },
    );
    const { results } = JSON.parse(stdout) as { results: { name: string; detail: string }[] };
    expect(results.filter(({ name }) => name !== 'unused_index')).toEqual([]);
    // A run that looked at nothing would find nothing either.
    expect(results.some(({ detail }) => detail.includes('stripe_webhook_events'))).toBe(true);
  });
});
