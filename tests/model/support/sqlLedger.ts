/** The ledger itself, made to live a whole history in one call that is rolled back at its end. */
import pg from 'pg';
import { type Account, type Books, balanceOf, DAY, heldOf, lotName } from './books.ts';
import type { Scripted } from './steps.ts';

/**
 * Requests are run one after the other, each in a subtransaction, so that one that is refused by an
 * exception leaves nothing; after each: the counters of all users, and every inconsistency.
 */
const DRIVER = `
create schema if not exists proof;
create or replace function proof.argument(p jsonb) returns text language plpgsql as $$
begin
  return case
    when p ? '$entry' then (
      select t.id::text from public.credit_transactions t
      where t.user_id = p #>> '{$entry,0}' and t.entry_number = (p #>> '{$entry,1}')::bigint)
    when p ? '$hold' then (
      select 'h_' || h.id from public.credit_holds h
      where h.user_id = p #>> '{$hold,0}' and h.idempotency_key = p #>> '{$hold,1}')
    else p #>> '{}' end;
end $$;
create or replace function proof.call(p_name text, p_args jsonb, p_now timestamptz) returns jsonb language plpgsql as $$
declare
  v_answer jsonb;
  v_call text;
begin
  case p_name
    when '$insert' then
      insert into public.users (id) values (p_args ->> 'user') on conflict do nothing;
    when '$delete' then
      delete from public.users where id = p_args ->> 'user';
    when '$suspend' then
      perform set_config('role', 'purser_ledger', true);
      update public.users u
      set credits_suspended = (p_args -> 'suspended')::boolean, credits_version = u.credits_version + 1
      where u.id = p_args ->> 'user' and u.credits_suspended <> (p_args -> 'suspended')::boolean;
      perform set_config('role', 'none', true);
    else
      if p_args ? 'p_version' then
        p_args := p_args || jsonb_build_object('p_version', (p_args #> '{p_version,$off}')::bigint + coalesce((
          select p.version from public.payments p where p.payment = p_args ->> 'p_payment'), 0));
      end if;
      if p_name <> 'sync_user_credits' then
        p_args := p_args || jsonb_build_object('p_now', p_now);
      end if;
      select format('select to_jsonb(public.%I(%s))', p_name, string_agg(
        format('%I => %L', a.key, proof.argument(a.value)), ', ')) into v_call
      from jsonb_each(p_args) a;
      execute v_call into v_answer;
  end case;
  return coalesce(v_answer, '{}');
exception when others then
  return jsonb_build_object('error', sqlstate, 'message', sqlerrm);
end $$;
create or replace function proof.live(p_script jsonb, p_users text[]) returns jsonb language plpgsql as $$
declare
  v_step jsonb;
  v_steps jsonb[];
  v_answer jsonb;
begin
  for v_step in select value from jsonb_array_elements(p_script) loop
    v_answer := proof.call(v_step ->> 'name', v_step -> 'args', to_timestamp((v_step ->> 'now')::numeric / 1000));
    v_steps := v_steps || jsonb_build_object('answer', v_answer,
      'books', (
        select coalesce(jsonb_object_agg(a.user_id, jsonb_build_object(
          'open', a.open, 'balance', a.balance, 'held', a.held, 'debt', a.debt, 'version', a.version,
          'suspended', a.suspended, 'entries', a.entries)), '{}')
        from (
          select u.id as user_id, true as open, u.credits_balance as balance, u.credits_held as held,
            u.credits_debt as debt, u.credits_version as version, u.credits_suspended as suspended, u.entry_count as entries
          from public.users u
          union all
          select c.user_id, false, c.credits_balance, c.credits_held, c.credits_debt, c.credits_version,
            c.credits_suspended, c.entry_count from public.closed_accounts c) a),
      'drift', (select coalesce(jsonb_agg(to_jsonb(d)), '[]') from public.validate_user_credits(p_users) d));
  end loop;
  return jsonb_build_object('steps', to_jsonb(v_steps),
    'entries', (select coalesce(jsonb_agg(to_jsonb(t) order by t.user_id, t.entry_number), '[]') from public.credit_transactions t),
    'lots', (select coalesce(jsonb_agg(to_jsonb(g) order by g.user_id, g.id), '[]') from public.credit_grants g),
    'holds', (select coalesce(jsonb_agg(to_jsonb(h) order by h.user_id, h.id), '[]') from public.credit_holds h),
    'payments', (select coalesce(jsonb_agg(to_jsonb(p) order by p.payment), '[]') from public.payments p),
    'sources', (select coalesce(jsonb_agg(to_jsonb(s) order by s.source_key), '[]') from public.credit_sources s),
    'findings', (select coalesce(jsonb_object_agg(f.code || ' ' || f.subject, f.times), '{}') from public.reconciliation_findings f),
    'audit', (select coalesce(jsonb_agg(format('%s %s %s', e.actor, e.action, coalesce(e.user_id, 'null')) order by e.id), '[]') from public.audit_events e));
end $$;`;

// biome-ignore lint/suspicious/noExplicitAny: rows are compared as JSON
type Row = Record<string, any>;

interface Lived {
  steps: { answer: Row; books: Row; drift: Row[] }[];
  entries: Row[];
  lots: Row[];
  holds: Row[];
  payments: Row[];
  sources: Row[];
  findings: Row;
  audit: string[];
}

export interface SqlLedger {
  /** Lives a history in a transaction that is rolled back, and tells all of it in the model's words. */
  live(script: readonly Scripted[], users: readonly string[], wall: number): Promise<Told>;
  close(): Promise<void>;
}

export interface Told {
  steps: { answer: unknown; books: unknown; drift: unknown[] }[];
  end: unknown;
}

export async function openSqlLedger(connectionString: string): Promise<SqlLedger> {
  const client = new pg.Client({ connectionString });
  await client.connect();
  await client.query(DRIVER);
  return {
    async live(script, users, wall) {
      const requests = script.map(({ request, now }) => ({
        name: request.name,
        args: datesWritten(request.args),
        now,
      }));
      await client.query('begin');
      try {
        const { rows } = await client.query<{ lived: Lived }>(
          'select proof.live($1, $2) as lived',
          [JSON.stringify(requests), users],
        );
        const lived = rows[0]?.lived;
        if (lived === undefined) throw new Error('The ledger told nothing.');
        return told(lived, wall);
      } finally {
        await client.query('rollback');
      }
    },
    close: () => client.end(),
  };
}

/** Arguments as the functions take them: times are text. */
function datesWritten(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (name, inner) =>
      (name === 'expires_at' || name === 'p_expires_at') && typeof inner === 'number'
        ? new Date(inner).toISOString()
        : inner,
    ),
  );
}

/** Clocks of the database and of the test differ by less; all other times are half an hour away. */
const NEAR_MS = 10 * 60_000;

/** The ledger's words for ids and times in the model's: ids become a user and a place. */
function told(lived: Lived, wall: number): Told {
  const names = new Map<string, string>();
  for (const entry of lived.entries) {
    names.set(`transaction_id ${entry.id}`, `${entry.user_id}#${entry.entry_number}`);
  }
  const numberRows = (rows: Row[], field: string, prefix: string, letter: string) => {
    const counts = new Map<string, number>();
    for (const row of rows) {
      const place = counts.get(row.user_id) ?? 0;
      counts.set(row.user_id, place + 1);
      names.set(`${field} ${prefix}${row.id}`, `${row.user_id}/${letter}${place}`);
    }
  };
  numberRows(lived.lots, 'grant_id', '', 'L');
  numberRows(lived.holds, 'hold_id', 'h_', 'H');
  const time = (value: unknown) => {
    if (value === null || value === undefined) return null;
    const found = typeof value === 'number' ? value : Date.parse(String(value));
    for (const known of [wall, wall + 7 * DAY]) {
      if (Math.abs(found - known) < NEAR_MS) return known;
    }
    return found;
  };
  const times = ['created_at', 'expires_at', 'valid_until', 'as_of'];
  const walk = (value: unknown, field = ''): unknown => {
    if (times.includes(field)) return time(value);
    if (Array.isArray(value)) return value.map((inner) => walk(inner));
    if (value === null || typeof value !== 'object') {
      return names.get(`${field} ${value}`) ?? value;
    }
    const known = Object.entries(value).filter(([name]) => name !== 'ledger' && name !== 'message');
    return Object.fromEntries(known.map(([name, inner]) => [name, walk(inner, name)]));
  };
  const key = (text: string) =>
    text
      .replace(/^expire:(\d+):/, (_, id) => `expire:${names.get(`grant_id ${id}`)}:`)
      .replace(/^capture:(h_\d+):/, (_, id) => `capture:${names.get(`hold_id ${id}`)}:`);
  return {
    steps: lived.steps.map((step) => {
      const answer = walk(step.answer) as Row;
      if (Array.isArray(answer.mirrors)) answer.mirrors.sort(byUser);
      return { answer, books: step.books, drift: step.drift };
    }),
    end: {
      entries: lived.entries.map((entry) => ({
        user: entry.user_id,
        number: entry.entry_number,
        type: entry.transaction_type,
        amount: entry.amount,
        balance: entry.balance_after,
        held: entry.held_after,
        available: entry.available_after,
        version: entry.version,
        key: key(entry.idempotency_key),
        lots: walk(entry.lots),
        reverses: entry.reverses,
        at: time(entry.created_at),
      })),
      lots: lived.lots.map((lot) => ({
        user: lot.user_id,
        entry: lot.entry_number,
        amount: lot.amount,
        remaining: lot.remaining,
        priority: lot.priority,
        expires_at: time(lot.expires_at),
        paid: lot.paid,
        from_plan: lot.from_plan,
        exhausted: lot.exhausted_at !== null,
      })),
      holds: lived.holds.map((hold) => ({
        user: hold.user_id,
        key: hold.idempotency_key,
        amount: hold.amount,
        captured: hold.captured,
        status: hold.status,
        expires_at: time(hold.expires_at),
      })),
      payments: lived.payments.map((payment) => ({
        payment: payment.payment,
        user: payment.user_id,
        entry: payment.entry_number,
        currency: payment.currency,
        paid: payment.paid,
        refunded: payment.refunded,
        disputed: payment.disputed,
        status: payment.status,
        version: payment.version,
      })),
      sources: lived.sources.map((source) => [
        source.source_key,
        source.user_id,
        source.entry_number,
      ]),
      findings: lived.findings,
      audit: lived.audit,
    },
  };
}

const byUser = (a: Row, b: Row) => (a.user_id < b.user_id ? -1 : 1);

const accountsOf = (books: Books): Account[] =>
  [...books.accounts.values()].sort((a, b) => (a.id < b.id ? -1 : 1));

/** Where each user of the model stands, in the words of `books` after a step. */
export function countersOfAll(books: Books): unknown {
  return Object.fromEntries(
    accountsOf(books).map((account) => [
      account.id,
      {
        open: account.open,
        balance: balanceOf(account),
        held: heldOf(account),
        debt: account.debt,
        version: account.version,
        suspended: account.suspended,
        entries: account.entries.length,
      },
    ]),
  );
}

/** The rows that the model's books are, in the words of `Told.end`. */
export function rowsOf(books: Books): unknown {
  const accounts = accountsOf(books);
  return {
    entries: accounts.flatMap((account) =>
      account.entries.map((entry) => ({
        user: account.id,
        number: entry.number,
        type: entry.type,
        amount: entry.amount,
        balance: entry.balance,
        held: entry.held,
        available: entry.available,
        version: entry.version,
        key: entry.key,
        lots: entry.parts.map((part) => ({
          amount: part.amount,
          grant_id: lotName(account, part.lot),
        })),
        reverses: entry.reverses,
        at: entry.at,
      })),
    ),
    lots: accounts.flatMap((account) =>
      account.lots.map((lot) => ({
        user: account.id,
        entry: lot.entry,
        amount: lot.amount,
        remaining: lot.remaining,
        priority: lot.priority,
        expires_at: lot.expiresAt,
        paid: lot.paid,
        from_plan: lot.fromPlan,
        exhausted: lot.remaining === 0,
      })),
    ),
    holds: accounts.flatMap((account) =>
      account.holds.map((hold) => ({
        user: account.id,
        key: hold.key,
        amount: hold.amount,
        captured: hold.captured,
        status: hold.status,
        expires_at: hold.expiresAt,
      })),
    ),
    payments: [...books.payments]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([payment, row]) => ({ payment, ...row })),
    sources: [...books.sources]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([source, owner]) => [source, owner.user, owner.entry]),
    findings: Object.fromEntries(books.findings),
    audit: books.audit,
  };
}
