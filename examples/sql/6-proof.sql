-- Do the books add up?
select ensure_user('ann') ->> 'outcome' as outcome;
select grant_free_credits('ann', 10, 'bonus', 'welcome', 'Welcome', p_expires_at => '2031-01-20T00:00Z', p_now => '2031-01-01T10:00Z') ->> 'outcome' as outcome;

-- No rows: they do. 'sums' reads the ledger once; 'entries' replays it.
select * from validate_credits_consistency();
select * from validate_credits_consistency('sums');
select * from validate_user_credits(array['ann']);
select * from validate_credits_consistency_since('2031-01-01T00:00Z');

-- Nothing to repair. `before` and `after` say what was and what is; what cannot be mended is listed.
select sync_user_credits('ann') as answer;

-- The pages the consistency-check job calls.
select check_changed_credits() as page;
select check_all_credits() as page;

-- What is due goes by itself; this writes it for everybody.
select expire_due_credits(p_now => '2031-02-01T00:00Z') as answer;
select get_credit_balance('ann', '2031-02-01T00:00Z') -> 'balance' as balance;

-- Seals: nobody has changed an entry since.
select seal_credit_entries() as answer;
select * from verify_credit_chain();
