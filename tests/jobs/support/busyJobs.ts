/**
 * Two servers and several cron callers on one database, with every job due all the time: the worst
 * a deployment can do to its schedule. Two witnesses stand beside: a trigger on scheduled_jobs that
 * writes down each begin and end, and wrappers of the functions the jobs work with, each of which
 * sees when it is inside twice at once.
 */
import type { Sandbox } from '../../../src/sandbox/index.ts';
import {
  ensureServerBuilt,
  type ServerProcess,
  startServerProcess,
} from '../../support/crashServer.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { buy, eventsOfType, startShop } from '../../support/purchases.ts';
import { type RedisServer, startRedisServer } from '../../support/redisServer.ts';
import { findRequirement } from '../../support/requirements.ts';
import { countBy } from '../../support/sqlCall.ts';
import { CRON_SECRET, callServer, deliverEvent, stackEnv, waitFor } from '../../support/stack.ts';

const PURCHASES = 20;
/** Functions that belong to one job each. */
const WORK = {
  expire_due_credits: 'expire-credits',
  seal_credit_entries: 'seal-ledger',
  check_changed_credits: 'consistency-check',
  check_all_credits: 'consistency-full',
  delete_old_webhook_events: 'cleanup-events',
  forget_notifications: 'cleanup-notifications',
  clear_expired_subscription_cache: 'subscription_cache_cleanup',
  requeue_parked_events: 'webhook-sweep',
  list_mirror_changes: 'mirror-repair',
  health_figures: 'health-check',
};
const SQL_JOBS = ['expire-credits', 'seal-ledger', 'consistency-check', 'cleanup-events'];

/** Written by the superuser of the tests, around the product as it is. */
const WITNESSES = `
  create table public.job_trace (id bigint generated always as identity, job text, event text, lease bigint, outcome text, result jsonb);
  create table public.job_overlaps (work text, at timestamptz default clock_timestamp());
  create function public.trace_job() returns trigger language plpgsql security definer as $$
  begin
    if new.lease > old.lease then
      insert into public.job_trace (job, event, lease) values (new.name, 'begun', new.lease);
    end if;
    if new.runs > old.runs then
      insert into public.job_trace (job, event, lease, outcome, result) values (new.name, 'ended', new.lease, new.last_outcome, new.last_result);
    end if;
    return null;
  end $$;
  create trigger trace_job after update on public.scheduled_jobs for each row execute function public.trace_job();
  do $$
  declare
    v_function record;
  begin
    for v_function in
      select p.proname as name, p.oid::regprocedure as signature, pg_get_function_arguments(p.oid) as arguments,
        pg_get_function_result(p.oid) as result,
        (select string_agg(format('%1$s => %1$s', a), ', ') from unnest(p.proargnames[1:p.pronargs]) a) as given
      from pg_proc p where p.pronamespace = 'public'::regnamespace and p.proname = any (array['${Object.keys(WORK).join("','")}'])
    loop
      execute format('alter function %s rename to %I', v_function.signature, 'real_' || v_function.name);
      execute format($f$create function public.%1$I(%2$s) returns %3$s language plpgsql security definer as $w$
        begin
          -- Held until the call's transaction ends: whoever finds it taken is at work beside another.
          if not pg_try_advisory_xact_lock(hashtext('at work'), hashtext('%1$s')) then
            insert into public.job_overlaps (work) values ('%1$s');
          end if;
          perform pg_sleep(0.03);
          return public.%4$I(%5$s);
        end $w$ $f$, v_function.name, v_function.arguments, v_function.result, 'real_' || v_function.name, v_function.given);
    end loop;
  end $$;`;

export interface BusyJobs {
  database: TestDatabase;
  /** What went on: runs by job, and answers of cron callers by word. */
  told: Record<string, unknown>;
  /** Everything that must not have happened; empty is good. */
  wrong: unknown[];
  close(): Promise<void>;
}

export async function runBusyJobs(seconds: number): Promise<BusyJobs> {
  await ensureServerBuilt();
  const database = await createTestDatabase();
  const { sandbox, stripe } = await startShop();
  const program = findRequirement('redis-server');
  const redis = program === null ? null : await startRedisServer({ program });
  const servers: ServerProcess[] = [];
  const close = async () => {
    await Promise.all(servers.map((server) => server.stop()));
    await redis?.stop();
    await sandbox.stop();
    await database.drop();
  };
  try {
    await database.query(WITNESSES);
    const env = envOf(database, sandbox, redis);
    servers.push(...(await Promise.all([startServerProcess(env), startServerProcess(env)])));
    const urls = servers.map(({ url }) => url);
    const sessions = await Promise.all(
      Array.from({ length: PURCHASES }, (_, n) =>
        buy(sandbox, urls[n % 2] ?? '', `buyer-${n}`, { plan: 'pack_50' }),
      ),
    );
    const events = await eventsOfType(stripe, 'checkout.session.completed');

    const endsAt = Date.now() + seconds * 1000;
    const answers: string[] = [];
    let lots = 0;
    /** Until the time is over; the bound against a server that answers at once. */
    const loop = async (work: (round: number) => Promise<unknown>) => {
      for (let round = 0; Date.now() < endsAt; round += 1) {
        await work(round);
        await new Promise((resolve) => setTimeout(resolve, 25));
      }
    };
    const cron = async (url: string, target: string) => {
      const { status, body } = await callServer(url, 'GET', target, { bearer: CRON_SECRET });
      const runs: { outcome: string }[] = body.runs ?? [body];
      for (const { outcome } of runs) answers.push(status === 200 ? outcome : `${status}`);
    };
    const jobs: string[] = (
      await database.query<{ name: string }>('select name from scheduled_jobs order by name')
    ).map(({ name }) => name);

    await Promise.all([
      loop(() =>
        database.query('update scheduled_jobs set next_run_at = now() where next_run_at > now()'),
      ),
      // Every tick comes twice, once to each server.
      loop(() => Promise.all(urls.map((url) => cron(url, '/api/cron/tick')))),
      loop((round) => cron(urls[round % 2] ?? '', `/api/cron/${jobs[round % jobs.length]}`)),
      loop((round) =>
        database.query(`select run_sql_job('${SQL_JOBS[round % SQL_JOBS.length]}', 1)`),
      ),
      loop(async (round) => {
        const event = events.get(sessions[round % PURCHASES] ?? '');
        await deliverEvent(stripe, urls[round % 2] ?? '', event);
        // What was worked on is asked for again: it must be credited once all the same.
        if (round % 7 === 6) {
          await database.query(
            `update stripe_events set processed = false where status = 'processed'`,
          );
        }
      }),
      loop(async () => {
        lots += 1;
        await database.query(
          `insert into users (id) values ('short-' || $1::text);`.replace('$1::text', `${lots}`),
        );
        await database.query(
          `select grant_credits('short-${lots}', 'bonus', 'grant:1',
             jsonb_build_array(jsonb_build_object('credits', 3, 'expires_at', now() + interval '400 ms')))`,
        );
      }),
    ]);

    await waitUntilDone(database, servers);
    // The servers end their runs, so that each begin has its end.
    await Promise.all(servers.splice(0).map((server) => expectCleanExit(server)));
    return {
      database,
      told: { lots, cron: countBy(answers), ...(await runsByJob(database)) },
      wrong: await findWrong(database, lots, answers),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

function envOf(database: TestDatabase, sandbox: Sandbox, redis: RedisServer | null) {
  return {
    ...stackEnv(database.connectionString, sandbox),
    ...(redis === null ? {} : { REDIS_URL: redis.url() }),
    LOG_LEVEL: 'warn',
  };
}

async function expectCleanExit(server: ServerProcess): Promise<void> {
  const how = await server.stop();
  if (how !== 0 || /Job [\w-]+ (failed|could not|has lost)/.test(server.output())) {
    throw new Error(`The server ended with ${how}:\n${server.output().slice(-4_000)}`);
  }
}

/** What jobs have still to do: events, lots past their end, entries without a seal. */
const LEFT = `
  select (select count(*) from stripe_webhook_events where status not in ('processed', 'ignored'))::int as events,
    (select count(*) from credit_grants where exhausted_at is null and expires_at < now())::int as lots,
    ((select count(*) from credit_transactions) - (select coalesce(sum(last_entry - first_entry + 1), 0) from credit_seals))::int as entries`;

/** One more round of the schedule, and of those after it, until nothing is left. */
async function waitUntilDone(database: TestDatabase, servers: ServerProcess[]): Promise<void> {
  let left: Record<string, number> = {};
  try {
    await waitFor(
      async () => {
        await database.query('update scheduled_jobs set next_run_at = now()');
        const url = servers[0]?.url ?? '';
        await callServer(url, 'GET', '/api/cron/tick', { bearer: CRON_SECRET });
        [left = {}] = await database.query<Record<string, number>>(LEFT);
        return Object.values(left).every((count) => count === 0);
      },
      'the jobs to have done everything',
      60,
    );
  } catch (error) {
    const jobs = await database.query(
      `select name, leased_until > now() as running, next_run_at - now() as due_in, last_outcome, last_result from scheduled_jobs`,
    );
    const said = servers.map((server) => server.output().slice(-2_000)).join('\n');
    throw new Error(`${(error as Error).message}: ${JSON.stringify({ left, jobs })}\n${said}`);
  }
}

async function runsByJob(database: TestDatabase) {
  const rows = await database.query<{ job: string; runs: number }>(
    `select job, count(*)::int as runs from job_trace where event = 'ended' group by job order by job`,
  );
  return { runs: Object.fromEntries(rows.map(({ job, runs }) => [job, runs])) };
}

async function findWrong(database: TestDatabase, lots: number, answers: string[]) {
  const overlaps = await database.query('select work, count(*) from job_overlaps group by work');
  const broken = await database.query(`
    select job, event, lease, before from (
      select t.*, lag(event) over w as before, lag(lease) over w as lease_before from job_trace t
      window w as (partition by job order by id)) t
    where case event when 'begun' then before = 'begun' or lease <> coalesce(lease_before, lease - 1) + 1
      else before is distinct from 'begun' or lease <> lease_before end`);
  const failed = await database.query(
    `select job, outcome, result, count(*)::int as times from job_trace where event = 'ended' and outcome <> 'done' group by 1, 2, 3`,
  );
  const idle = await database.query(
    `select j.name from scheduled_jobs j where (select count(*) from job_trace t where t.job = j.name and t.event = 'ended') < 2`,
  );
  const drift = await database.query(`select * from validate_credits_consistency('entries')`);
  const [book] = await database.query<{ bought: number; expired: number; users: number }>(`
    select count(*) filter (where transaction_type = 'purchase')::int as bought,
      count(*) filter (where transaction_type = 'expiration')::int as expired,
      count(distinct user_id) filter (where transaction_type = 'expiration')::int as users
    from credit_transactions`);
  const expected = { bought: PURCHASES, expired: lots, users: lots };
  const wrongBook = JSON.stringify(book) === JSON.stringify(expected) ? [] : [{ book, expected }];
  const refused = answers.filter((word) => !['done', 'busy'].includes(word));
  return [...overlaps, ...broken, ...failed, ...idle, ...drift, ...wrongBook, ...refused];
}
