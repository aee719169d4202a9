-- What support does: give a spend back, grant, adjust; and look before leaping.
select ensure_user('ann') ->> 'outcome' as outcome;
select grant_free_credits('ann', 20, 'bonus', 'sorry', 'An apology', p_now => '2031-01-01T10:00Z') - 'mirror' as answer;
select consume_credits('ann', 7, 'image-1', p_now => '2031-01-02T10:00Z') ->> 'transaction_id' as spent;

-- Part of a spend comes back to the lots it was taken from; never more than it was.
select refund_usage('ann', '2', 'image-1-failed', 5, p_now => '2031-01-03T10:00Z') - 'mirror' as answer;
select refund_usage('ann', '2', 'image-1-again', 3, p_now => '2031-01-03T10:00Z') ->> 'outcome' as outcome;

-- An adjustment says why, and who did it stands in audit_events.
select adjust_credits('ann', -3, 'ticket-17', 'counted twice', 'ops@example.com', p_now => '2031-01-04T10:00Z') - 'mirror' as answer;

-- The same of any money function without writing: the rows it would write, and its answer.
select dry_run('adjust_credits', '{"p_user_id": "ann", "p_amount": 5, "p_key": "ticket-18", "p_reason": "goodwill", "p_actor": "ops@example.com",
  "p_now": "2031-01-05T10:00Z"}') #> '{answer,balance}' as balance_then;
select get_credit_balance('ann', '2031-01-05T10:00Z') -> 'balance' as balance;
