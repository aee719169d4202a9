-- Where did the credits go?
select ensure_user('ann') ->> 'outcome' as outcome;
select grant_credits('ann', 'purchase', 'checkout:cs_1', '[{"credits": 50, "catalogue_id": "pack_50"}]',
  p_sources => '["checkout:cs_1", "payment:pi_1"]',
  p_payments => '[{"payment": "pi_1", "paid": 500, "currency": "usd"}]', p_now => '2031-01-01T10:00Z') ->> 'outcome' as outcome;
select grant_free_credits('ann', 10, 'bonus', 'welcome', 'Welcome credits', '2031-01-20T00:00Z', p_now => '2031-01-01T10:01Z') ->> 'outcome' as outcome;
select consume_credits('ann', 7, 'image-1', 'image', p_now => '2031-01-02T10:00Z') ->> 'outcome' as outcome;
select refund_usage('ann', '3', 'image-1-failed', 2, p_now => '2031-01-02T11:00Z') ->> 'outcome' as outcome;
select hold_credits('ann', 12, 'job-1', 86400, 'video', p_now => '2031-01-03T10:00Z') ->> 'outcome' as outcome;
select capture_hold('h_1', 'first', 4, p_now => '2031-01-03T12:00Z') ->> 'outcome' as outcome;
select set_payment_state('pi_1', 1, 500, 500, 0, p_now => '2031-01-03T13:00Z') ->> 'outcome' as outcome;

-- In sentences, as of an instant. The rest of the answer is the same as data.
select explain_credit_balance('ann', '2031-01-03T14:00Z') -> 'sentences' as sentences;

-- Before the refund; and in a month, if nothing else happens.
select get_credit_balance_at('ann', '2031-01-03T12:30Z') as then;
select get_credit_balance_at('ann', '2031-02-01T00:00Z') as then;

-- The account statement of a span.
select get_credit_statement('ann', '2031-01-02T00:00Z', '2031-01-03T00:00Z') - 'data' as statement;
