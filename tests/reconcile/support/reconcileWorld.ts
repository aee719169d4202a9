/** A shop whose Stripe, ledger and Redis can be set at odds, and what compares them. */
import { type Sandbox, startSandbox } from '../../../src/sandbox/index.ts';
import type { TestDatabase } from '../../support/postgres.ts';
import {
  ADMIN_KEY,
  type CallAnswer,
  type DatabaseAdapter,
  type Stack,
  startStack,
  waitFor,
} from '../../support/stack.ts';
import { clockAhead } from './domain.ts';

/** Stripe's clock is behind the database's, and the server's is ahead of it. */
const BEHIND_MS = 3_600_000;
/** Before everything that happens here, and after no ledger began. */
export const LONG_AGO = new Date(Date.now() - 86_400_000).toISOString();

export interface ReconcileWorld {
  stack: Stack;
  sandbox: Sandbox;
  database: TestDatabase;
  admin(method: string, path: string, body?: unknown): Promise<CallAnswer>;
  /** POST /api/admin/stripe/reconcile; fails when it does not end. */
  // biome-ignore lint/suspicious/noExplicitAny: answers are compared as JSON
  reconcile(body?: Record<string, unknown>): Promise<any>;
  /** Buys through the shop's own checkout; delivered unless deliveries are broken. */
  buy(user: string, plan?: string): Promise<{ session: string; subscription: string | null }>;
  balance(user: string): Promise<number>;
  /** Every event so far has been worked on. */
  settled(): Promise<void>;
  /** From now on the job finds its lease taken; a run that was under way has ended. */
  rest(job: string): Promise<void>;
  drop(): Promise<void>;
  deliver(): Promise<void>;
  stop(): Promise<void>;
}

export async function openReconcileWorld(
  database: TestDatabase,
  env: Record<string, string> = {},
  adapter: DatabaseAdapter = 'pg',
): Promise<ReconcileWorld> {
  await database.query(
    `update reconciliation_cursors set position = now() - interval '12 hours' where name = 'began'`,
  );
  // Only the tests reconcile: the jobs find their leases taken.
  await database.query(
    `insert into scheduled_jobs (name, leased_until)
     select name, now() + interval '1 day'
     from unnest(array['reconcile', 'reconcile-resume', 'replay-missed-events', 'consistency-check']) name`,
  );
  const sandbox = await startSandbox({ now: () => Date.now() - BEHIND_MS });
  const stack = await startStack({
    connectionString: database.connectionString,
    sandbox,
    adapter,
    deliveries: true,
    clock: clockAhead,
    env: { STRIPE_WEBHOOK_TOLERANCE_SECONDS: '3600', ...env },
  });
  const admin: ReconcileWorld['admin'] = (method, path, body) =>
    stack.call(method, `/api/admin/${path}`, {
      bearer: ADMIN_KEY,
      ...(body === undefined ? {} : { body }),
    });
  return {
    stack,
    sandbox,
    database,
    admin,
    async reconcile(body = {}) {
      const answer = await admin('POST', 'stripe/reconcile', body);
      if (answer.status !== 200 || answer.body.outcome !== 'done') {
        throw new Error(`Reconciliation did not end: ${JSON.stringify(answer.body)}`);
      }
      return answer.body;
    },
    async buy(user, plan = 'pack_50') {
      const { status, body } = await stack.call('POST', '/api/checkout-session', {
        bearer: await stack.token(user),
        body: { plan },
      });
      if (status !== 200) throw new Error(`No checkout: ${JSON.stringify(body)}`);
      const { session } = await sandbox.pay(body.session_id);
      return { session: session.id, subscription: session.subscription };
    },
    async balance(user) {
      const [row] = await database.query<{ balance: number }>(
        'select credits_balance::int as balance from users where id = $1',
        [user],
      );
      return row?.balance ?? 0;
    },
    async settled() {
      await waitFor(async () => {
        const waiting = await sandbox.deliveries({ status: 'pending' });
        const [open] = await database.query<{ n: number }>(
          `select count(*)::int as n from stripe_webhook_events where status in ('received', 'leased', 'failed')`,
        );
        return waiting.length === 0 && open?.n === 0;
      }, 'the inbox');
    },
    async rest(job) {
      await waitFor(async () => {
        const taken = await database.query(
          `update scheduled_jobs set leased_until = now() + interval '1 day'
           where name = $1 and coalesce(leased_until, '-infinity') < now() returning name`,
          [job],
        );
        return taken.length === 1;
      }, `the end of ${job}`);
    },
    drop: () => sandbox.setFaults({ drop: true }),
    deliver: () => sandbox.setFaults({}),
    async stop() {
      await stack.stop();
      await sandbox.stop();
    },
  };
}

/**
 * What a restore of an older backup does to one user: his entries, and all that came with them, are
 * gone, and his counters are those of before. Only the superuser can, with the triggers off.
 */
export async function forgetCredits(database: TestDatabase, user: string): Promise<void> {
  const emptied = [
    'credit_seals',
    'credit_grants',
    'credit_sources',
    'payments',
    'credit_transactions',
  ];
  await database.query(`
    do $$
    declare
      v_trigger record;
      v_triggers jsonb := '[]';
    begin
      for v_trigger in
        select t.tgname, c.relname, t.tgenabled from pg_trigger t join pg_class c on c.oid = t.tgrelid
        where not t.tgisinternal and c.relnamespace = 'public'::regnamespace
          and c.relname in (${[...emptied, 'users'].map((name) => `'${name}'`).join(', ')})
      loop
        execute format('alter table public.%I disable trigger %I', v_trigger.relname, v_trigger.tgname);
        v_triggers := v_triggers || to_jsonb(v_trigger);
      end loop;
      ${emptied.map((name) => `delete from public.${name} where user_id = '${user}';`).join('\n      ')}
      update public.users set credits_balance = 0, credits_version = 0, entry_count = 0 where id = '${user}';
      for v_trigger in select * from jsonb_to_recordset(v_triggers) as t(tgname text, relname text, tgenabled text) loop
        execute format('alter table public.%I enable %s trigger %I', v_trigger.relname,
          case v_trigger.tgenabled when 'A' then 'always' else '' end, v_trigger.tgname);
      end loop;
    end
    $$`);
}
