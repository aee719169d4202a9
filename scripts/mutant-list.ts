/**
 * Faults that `npm run mutants` plants into sql/, one at a time: each breaks one rule of the
 * ledger, and the named tests have to notice.
 */
export interface Mutant {
  /** The rule that it breaks. */
  name: string;
  /** File of sql/. */
  file: string;
  /** Text that occurs there exactly once. */
  find: string;
  replace: string;
  /** Test files, of which one test at least must fail. */
  tests: string[];
}

const LEDGER = 'credit_transactions_migration.sql';
const EXPIRY = 'credit_expiry_migration.sql';
const GRANTS = 'credit_grants_migration.sql';
const SPENDING = 'credit_spending_migration.sql';
const HOLDS = 'credit_holds_migration.sql';
const PAYMENTS = 'payments_migration.sql';
const CORRECTIONS = 'credit_corrections_migration.sql';
const EVENTS = 'stripe_webhook_events_migration.sql';
const MODEL = ['tests/model/ledger.test.ts'];

export const MUTANTS: Mutant[] = [
  {
    name: 'users of a batch are locked in an order of its own',
    file: SPENDING,
    find: `      where a.id in (select purser.to_user_id(o.value ->> 'user_id') from jsonb_array_elements(p_operations) o)
      order by a.id for no key update;`,
    replace: `      where a.id in (select purser.to_user_id(o.value ->> 'user_id') from jsonb_array_elements(p_operations) o)
      order by md5(a.id::text || (p_operations ->> 0)) for no key update;`,
    tests: ['tests/sql/consumeBatch.test.ts'],
  },
  {
    name: 'a spend does not lock the user',
    file: SPENDING,
    find: 'into v_row from public.users u where u.id = purser.to_user_id(p_user_id) for no key update;',
    replace: 'into v_row from public.users u where u.id = purser.to_user_id(p_user_id);',
    tests: ['tests/sql/concurrency.test.ts'],
  },
  {
    name: 'the key is looked up before the lock',
    file: CORRECTIONS,
    find: `  v_user := purser.lock_user(p_user_id);
  if v_user.id is null then
    return jsonb_build_object('outcome', 'not_found', 'user_id', p_user_id);
  end if;
  v_now := coalesce(p_now, clock_timestamp());
  v_user := purser.expire_due(v_user, v_now);

  v_entry := purser.find_entry(v_user.user_id, 'adjust:' || p_key);
  if v_entry.id is not null then`,
    replace: `  v_entry := purser.find_entry(purser.user_key(p_user_id), 'adjust:' || p_key);
  v_user := purser.lock_user(p_user_id);
  if v_user.id is null then
    return jsonb_build_object('outcome', 'not_found', 'user_id', p_user_id);
  end if;
  v_now := coalesce(p_now, clock_timestamp());
  v_user := purser.expire_due(v_user, v_now);
  if v_entry.id is not null then`,
    tests: ['tests/sql/corrections.test.ts'],
  },
  {
    name: 'a lot that expires late is spent first',
    file: LEDGER,
    find: 'order by g.user_id, g.priority, g.expires_at nulls last, g.paid, g.id;',
    replace: 'order by g.user_id, g.priority, g.expires_at desc nulls first, g.paid, g.id;',
    tests: MODEL,
  },
  {
    name: 'paid lots are spent before free ones',
    file: LEDGER,
    find: 'order by g.user_id, g.priority, g.expires_at nulls last, g.paid, g.id;',
    replace: 'order by g.user_id, g.priority, g.expires_at nulls last, g.paid desc, g.id;',
    tests: MODEL,
  },
  {
    name: 'what is held counts as available',
    file: LEDGER,
    find: '    return p_user.credits_balance - p_user.credits_held;',
    replace: '    return p_user.credits_balance;',
    tests: MODEL,
  },
  {
    name: 'expiry takes what holds reserve',
    file: EXPIRY,
    find: 'v_take := least(v_lot.remaining, v_user.credits_balance - v_user.credits_held);',
    replace: 'v_take := v_lot.remaining;',
    tests: MODEL,
  },
  {
    name: 'a grant repays no debt',
    file: GRANTS,
    find: '  v_repaid := least(v_user.credits_debt, v_amount);',
    replace: '  v_repaid := 0;',
    tests: MODEL,
  },
  {
    name: 'a key with another amount is a replay',
    file: SPENDING,
    find: "case when v_entry.amount = -p_amount then 'replayed' else 'conflict' end, v_entry);",
    replace: "'replayed', v_entry);",
    tests: MODEL,
  },
  {
    name: 'a batch does not look for keys that it holds twice',
    file: SPENDING,
    find: 'bool_or(o.known) is not true and count(distinct o.key) = count(*) as new',
    replace: 'bool_or(o.known) is not true as new',
    tests: MODEL,
  },
  {
    name: 'a suspended account spends the credits of its plan',
    file: LEDGER,
    find: '      and not (p_user.credits_suspended and b.from_plan)\n',
    replace: '',
    tests: MODEL,
  },
  {
    name: 'a refund that came before its grant is forgotten',
    file: GRANTS,
    find: `    v_user := purser.expire_due(purser.settle_payments(v_user, v_entry.entry_number, null, v_now), v_now);
  end if;
  return purser.entry_answer('applied', v_entry)`,
    replace: `  end if;
  return purser.entry_answer('applied', v_entry)`,
    tests: MODEL,
  },
  {
    name: 'a claw-back is rounded up',
    file: PAYMENTS,
    find: 'div(granted * least(settled, returned), settled) end;',
    replace: 'ceil(granted * least(settled, returned) / settled) end;',
    tests: MODEL,
  },
  {
    name: 'a payment refunded and disputed counts for more than was paid with it',
    file: PAYMENTS,
    find: 'coalesce(sum(least(p.paid::numeric, p.refunded::numeric + p.disputed)), 0)',
    replace: 'coalesce(sum(p.refunded::numeric + p.disputed), 0)',
    tests: MODEL,
  },
  {
    name: 'a claw-back is a delta, not a target',
    file: PAYMENTS,
    find: 'purser.claw_back(p_user, p_entry_number, v_settlement.target - v_settlement.clawed, v_key',
    replace: 'purser.claw_back(p_user, p_entry_number, v_settlement.target, v_key',
    tests: MODEL,
  },
  {
    name: 'a reversal is counted in money',
    file: PAYMENTS,
    find: 'purser.reverse_claw_back(p_user, p_entry_number, v_settlement.clawed - v_settlement.target, v_key',
    replace:
      'purser.reverse_claw_back(p_user, p_entry_number, least(v_settlement.clawed, v_settlement.settled - v_settlement.returned)::bigint, v_key',
    tests: MODEL,
  },
  {
    name: 'a claw-back spares the lots of its own grant',
    file: PAYMENTS,
    find: '  v_lots := purser.take_up_to(v_user, p_amount, p_now, p_entry_number);\n',
    replace: "  v_lots := '[]';\n",
    tests: MODEL,
  },
  {
    name: 'credits come back to a lot that has expired',
    file: PAYMENTS,
    find: 'v_fits := case when v_expired then 0 else least(v_lot.amount - v_lot.remaining, p_amount) end;',
    replace: 'v_fits := least(v_lot.amount - v_lot.remaining, p_amount);',
    tests: MODEL,
  },
  {
    name: 'a payment read too early is written all the same',
    file: PAYMENTS,
    find: '    if coalesce(v_before.version, 0) is distinct from p_version and\n',
    replace: '    if false and\n',
    tests: MODEL,
  },
  {
    name: 'an account that returns is not brought to its targets',
    file: PAYMENTS,
    find: '    v_user := purser.settle_payments(v_user, v_entry, null, v_now);\n',
    replace: '    null;\n',
    tests: MODEL,
  },
  {
    name: 'more usage is given back than there was',
    file: CORRECTIONS,
    find: 'if v_amount = 0 or v_refunded + v_amount > -v_usage.amount then',
    replace: 'if v_amount = 0 then',
    tests: MODEL,
  },
  {
    name: 'a second refund begins where the first began',
    file: CORRECTIONS,
    find: 'v_usage.lots, v_refunded + v_repaid, v_amount - v_repaid',
    replace: 'v_usage.lots, v_repaid, v_amount - v_repaid',
    tests: MODEL,
  },
  {
    name: 'a hold that has expired is captured without asking for its credits',
    file: HOLDS,
    find: '  elsif v_late and purser.available(v_user) < v_amount then',
    replace: '  elsif false then',
    tests: MODEL,
  },
  {
    name: 'an extension shortens a hold',
    file: HOLDS,
    find: '  if v_expires_at <= v_hold.expires_at then',
    replace: '  if false then',
    tests: MODEL,
  },
  {
    name: 'an event covers what came after it was taken up',
    file: EVENTS,
    find: 'and o.created_at < p_event.leased_at and p_types',
    replace: 'and p_types',
    tests: ['tests/sql/coveredEvents.test.ts'],
  },
  {
    name: 'an event is worked on under a lease that was lost',
    file: EVENTS,
    find: 'v_event.id is null or v_event.lease is distinct from p_fence',
    replace: 'v_event.id is null',
    tests: ['tests/sql/coveredEvents.test.ts'],
  },
];

/** The file's text with the mutant in it. Throws unless its anchor occurs exactly once. */
export function plant(mutant: Mutant, sql: string): string {
  const places = sql.split(mutant.find).length - 1;
  if (places !== 1) {
    throw new Error(
      `The anchor of "${mutant.name}" occurs ${places} times in ${mutant.file}; it must once. Bring scripts/mutant-list.ts up to date.`,
    );
  }
  return sql.replace(mutant.find, () => mutant.replace);
}
