-- A refund takes back what it paid for; a won dispute gives it back.
select ensure_user('ann') ->> 'outcome' as outcome;
select grant_credits('ann', 'purchase', 'checkout:cs_1', '[{"credits": 50}]',
  p_sources => '["checkout:cs_1", "payment:pi_1"]',
  p_payments => '[{"payment": "pi_1", "paid": 500, "currency": "usd"}]', p_now => '2031-01-01T10:00Z') ->> 'outcome' as outcome;
select consume_credits('ann', 40, 'k', p_now => '2031-01-02T10:00Z') ->> 'outcome' as outcome;

-- Read the version, ask Stripe, write what it says: 3 of 5 dollars are refunded.
select get_payment_state('pi_1') -> 'version' as version;
select set_payment_state('pi_1', 1, 500, 300, 0, p_now => '2031-01-03T10:00Z') - 'mirror' as answer;

-- Who read before that is told to read again.
select set_payment_state('pi_1', 1, 500, 500, 0, p_now => '2031-01-03T10:00Z') ->> 'outcome' as outcome;

-- 30 credits were due and 10 were there: the rest is debt, which the next credits repay.
select get_credit_balance('ann', '2031-01-03T11:00Z') - 'mirror' as answer;
select grant_free_credits('ann', 25, 'bonus', 'b', 'An apology', p_now => '2031-01-04T10:00Z') - 'mirror' as answer;

-- The refund failed: all 30 come back.
select set_payment_state('pi_1', 2, 500, 0, 0, p_now => '2031-01-05T10:00Z') - 'mirror' as answer;
