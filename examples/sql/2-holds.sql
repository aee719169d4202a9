-- Reserve, work, settle.
select ensure_user('ann') ->> 'outcome' as outcome;
select grant_free_credits('ann', 20, 'bonus', 'welcome', 'Welcome', p_now => '2031-01-01T10:00Z') ->> 'outcome' as outcome;

-- 10 credits for 10 minutes: they are still in the balance, but nobody can spend them.
select hold_credits('ann', 10, 'job-1', p_description => 'video', p_now => '2031-01-01T10:00Z') - 'mirror' as answer;
select consume_credits('ann', 11, 'k', p_now => '2031-01-01T10:01Z') - 'mirror' as answer;

-- The work took 6; the rest comes back.
select capture_hold('h_1', 'done', 6, p_now => '2031-01-01T10:02Z') - 'mirror' as answer;
select extend_hold('h_1', 600, p_now => '2031-01-01T10:03Z') -> 'expires_at' as expires_at;
select release_hold('h_1', p_now => '2031-01-01T10:04Z') - 'mirror' as answer;
select capture_hold('h_1', 'more', 1, p_now => '2031-01-01T10:05Z') ->> 'outcome' as outcome;

select get_hold('h_1', '2031-01-01T10:06Z') ->> 'status' as status;
select list_open_holds('ann') -> 'data' as open;
