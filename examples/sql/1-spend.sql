-- Sell, spend, look. Answers here leave out `mirror`, the copy for Redis that each carries.

-- A user; the call may be repeated.
select ensure_user('ann', 'ann@example.com');

-- A purchase, under every Stripe object that names it: whichever comes again, it is credited once.
select grant_credits('ann', 'purchase', 'checkout:cs_1',
  '[{"credits": 50, "catalogue_id": "pack_50", "cost_amount": 500, "cost_currency": "usd"}]',
  p_sources => '["checkout:cs_1", "payment:pi_1"]',
  p_payments => '[{"payment": "pi_1", "paid": 500, "currency": "usd"}]',
  p_stripe_session_id => 'cs_1', p_now => '2031-01-01T10:00Z') - 'mirror' as answer;

-- The same payment, under another name: replayed, with the first answer.
select grant_credits('ann', 'purchase', 'payment:pi_1', '[{"credits": 50}]',
  p_sources => '["payment:pi_1"]', p_now => '2031-01-01T10:05Z') ->> 'outcome' as outcome;

-- A spend, its replay, and the same key for another amount.
select consume_credits('ann', 7, 'image-1', 'image', p_now => '2031-01-02T10:00Z') - 'mirror' as answer;
select consume_credits('ann', 7, 'image-1', 'image') ->> 'outcome' as outcome;
select consume_credits('ann', 8, 'image-1', 'image') ->> 'outcome' as outcome;

-- A refusal writes nothing; the key is still free.
select consume_credits('ann', 44, 'image-2') - 'mirror' as answer;

-- Many at once, each with its own outcome.
select consume_credits_batch('[
  {"user_id": "ann", "amount": 1, "idempotency_key": "a"},
  {"user_id": "ann", "amount": 99, "idempotency_key": "b"},
  {"user_id": "nobody", "amount": 1, "idempotency_key": "c"}]', p_now => '2031-01-03T10:00Z') #> '{results}' as results;

select get_credit_balance('ann', '2031-01-04T10:00Z') - 'mirror' as answer;
select list_credit_transactions('ann', 1) as page;
