-- Purser, optional: the jobs that need nothing but the database, run by pg_cron.
--
-- For set-ups without a server of their own (Vercel, where the only cron may be a daily one), and
-- beside a server as a second pair of hands: both share the rows of scheduled_jobs, so that no job
-- runs twice at once or again before it is due.
--
-- Paste after operations_migration.sql. Safe to run again: jobs of these names are put in anew.
-- Where pg_cron is absent it says so and does nothing; on Supabase it is switched on under
-- Database > Extensions, or with
--   create extension if not exists pg_cron;
-- pg_cron runs in UTC unless cron.timezone says otherwise. What ran and how it ended:
--   select * from public.scheduled_jobs;
--   select * from cron.job_run_details order by start_time desc limit 20;
-- Take it back with:
--   select cron.unschedule(jobname) from cron.job where jobname like 'purser-%' or jobname = 'subscription_cache_cleanup';

do $$
declare
  v_job record;
begin
  if to_regprocedure('public.run_sql_job(text,integer,boolean)') is null then
    raise exception 'the functions of Purser are not here yet'
      using errcode = 'object_not_in_prerequisite_state',
        hint = 'Run `npm run migrate`, or paste the files of sql/ up to operations_migration.sql, then this one again. Nothing was changed.';
  end if;
  if to_regnamespace('cron') is null then
    raise notice 'pg_cron is not here, so nothing was scheduled: a server, or calls of /api/cron/tick, run these jobs instead';
    return;
  end if;
  for v_job in
    select * from (values
      -- Credits and holds whose time is over. Money functions do it themselves for whoever comes;
      -- this is for users who do not.
      ('purser-expire-credits', '* * * * *', $sql$select public.run_sql_job('expire-credits')$sql$),
      -- Entries are sealed off the hot path, so that tampering is found.
      ('purser-seal-ledger', '* * * * *', $sql$select public.run_sql_job('seal-ledger')$sql$),
      -- The books of users who were touched since the last run.
      ('purser-consistency-check', '* * * * *', $sql$select public.run_sql_job('consistency-check')$sql$),
      -- Cached subscription states last five minutes.
      ('subscription_cache_cleanup', '*/5 * * * *', $sql$select public.run_sql_job('subscription_cache_cleanup')$sql$),
      -- Weekly, Sunday 3 AM: events older than 90 days. Payloads that wrote entries are kept.
      ('purser-cleanup-events', '0 3 * * 0', $sql$select public.run_sql_job('cleanup-events', 90)$sql$),
      -- Daily: addresses and data of messages that ended more than 90 days ago.
      ('purser-cleanup-notifications', '30 3 * * *', $sql$select public.run_sql_job('cleanup-notifications', 90)$sql$),
      -- Monthly: every entry of every user. It begins on the first at 4 AM and takes as many of
      -- these turns as it needs; the copies in Redis are a server's part (job consistency-full).
      ('purser-consistency-ledger', '*/5 4-9 1 * *', $sql$select public.run_sql_job('consistency-ledger', 60)$sql$)
    ) as j(name, schedule, command)
  loop
    -- Older versions of pg_cron refuse a name that is taken.
    perform cron.unschedule(c.jobname) from cron.job c where c.jobname = v_job.name;
    perform cron.schedule(v_job.name, v_job.schedule, v_job.command);
  end loop;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- The other jobs (retries of events, mirror, dunning, e-mails, reconciliation) need Purser itself.
-- Where no server runs, pg_cron can call it each minute through pg_net. Put your address and your
-- CRON_SECRET into the vault once, then run the lines below without their dashes.
--
-- tick: begin
-- select vault.create_secret('https://your-app.vercel.app', 'purser_url');
-- select vault.create_secret('your CRON_SECRET', 'purser_cron_secret');
-- select cron.schedule('purser-tick', '* * * * *', $job$
--   select net.http_get(
--     url := (select decrypted_secret from vault.decrypted_secrets where name = 'purser_url') || '/api/cron/tick',
--     headers := jsonb_build_object('Authorization', 'Bearer ' || (
--       select decrypted_secret from vault.decrypted_secrets where name = 'purser_cron_secret')),
--     timeout_milliseconds := 60000)
-- $job$);
-- tick: end
-- ---------------------------------------------------------------------------------------------
