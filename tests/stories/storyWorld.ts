/** One user's money from the buyer's click to the mirror, with events told in any way. */
import { expect } from '@jest/globals';
import { type Sandbox, startSandbox } from '../../src/sandbox/index.ts';
import { type TestDatabase, userId } from '../support/postgres.ts';
import { randomOf } from '../support/random.ts';
import { CRON_SECRET, SERVICE_KEY, type Stack, startStack, waitFor } from '../support/stack.ts';
import {
  type EventForm,
  keepToldEvents,
  type ToldEvent,
  type ToldEvents,
} from '../support/toldEvents.ts';

/** How events reach Purser: in order and once, or by a seed: shuffled, doubled, with late repeats. */
export interface Telling {
  form: EventForm;
  seed: number | null;
}

export interface StoryWorld {
  user: string;
  sandbox: Sandbox;
  stripe: Stack['stripe'];
  /** Makes the user's row, as an app does at sign-up; buying through Purser makes it, too. */
  appears(): Promise<void>;
  /** Opens a checkout and pays it; the session's id. */
  buy(body?: Record<string, unknown>, pay?: Parameters<Sandbox['pay']>[1]): Promise<string>;
  /** An open checkout. */
  open(body?: Record<string, unknown>): Promise<string>;
  spend(amount: number): Promise<number>;
  /**
   * Delivers what happened since, and expects this balance, in ledger, entries and mirror; null: there
   * is no such user yet, and all that was told waits for him.
   */
  told(balance: number | null, options?: { latestFirst?: boolean }): Promise<void>;
  /** Type and amount of each entry, in order. */
  entries(): Promise<[string, number][]>;
}

export interface StoryStage {
  world(telling: Telling): StoryWorld;
  /** The books of all whose stories were told. */
  proveBooks(): Promise<void>;
  stop(): Promise<void>;
}

/** Late repeats of earlier events, each time something new is told. */
const LATE_REPEATS = 3;
/** Deliveries under way at once, as Stripe has them. */
const TOGETHER = 4;

export async function openStage(database: TestDatabase): Promise<StoryStage> {
  const sandbox = await startSandbox({ delaySettleMs: 30 * 24 * 3_600_000 });
  const stack = await startStack({ connectionString: database.connectionString, sandbox });
  const events = await keepToldEvents(sandbox, stack.stripe);
  let users = 0;
  return {
    world(telling) {
      users += 1;
      return storyWorld({ database, stack, sandbox, events }, userId(`story-${users}`), telling);
    },
    async proveBooks() {
      expect(await database.query('select * from validate_credits_consistency()')).toEqual([]);
      expect(await database.query('select * from purser.settlement_drift()')).toEqual([]);
    },
    async stop() {
      await stack.stop();
      await events.stop();
      await sandbox.stop();
    },
  };
}

interface Stage {
  database: TestDatabase;
  stack: Stack;
  sandbox: Sandbox;
  events: ToldEvents;
}

function storyWorld(stage: Stage, user: string, { form, seed }: Telling): StoryWorld {
  const { database, stack, sandbox, events } = stage;
  const random = seed === null ? null : randomOf(seed);
  const earlier: ToldEvent[] = [];
  let repeats = 0;
  let spends = 0;

  function asTold(fresh: ToldEvent[], latestFirst: boolean): ToldEvent[] {
    if (random === null) return latestFirst ? fresh.toReversed() : fresh;
    const late = Array.from({ length: earlier.length === 0 ? 0 : LATE_REPEATS }, () => {
      return earlier[Math.floor(random() * earlier.length)] as ToldEvent;
    });
    // Half of the repeats are the same event again, the others one of its own about the same fact.
    const again = [...fresh, ...late].map((event) => {
      repeats += 1;
      return random() < 0.5 ? event : { ...event, id: `${event.id}_${repeats}` };
    });
    return shuffled([...fresh, ...again], random);
  }

  async function deliver(told: ToldEvent[]): Promise<void> {
    const waiting = [...told];
    const one = async () => {
      for (let event = waiting.shift(); event !== undefined; event = waiting.shift()) {
        expect((await stack.deliver(event)).status).toBe(200);
      }
    };
    await Promise.all(Array.from({ length: random === null ? 1 : TOGETHER }, one));
    await waitFor(
      async () => {
        const [row] = await database.query<{ left: number }>(
          `select count(*)::int as left from stripe_webhook_events where status in ('received', 'leased', 'failed')`,
        );
        if (row?.left === 0) return true;
        // What met another event of its payment is the sweep's, which comes every two seconds.
        await stack.call('GET', '/api/cron/webhook-sweep', { bearer: CRON_SECRET });
        return false;
      },
      'the inbox to be empty',
      90,
    );
  }

  const open: StoryWorld['open'] = async (body = { plan: 'pack_50' }) => {
    const answer = await stack.call('POST', '/api/checkout-session', {
      bearer: await stack.token(user),
      body,
    });
    expect(answer.status).toBe(200);
    return answer.body.session_id;
  };

  return {
    user,
    sandbox,
    stripe: stack.stripe,
    open,
    async appears() {
      const { status } = await stack.call('PUT', `/api/users/${user}`, {
        bearer: SERVICE_KEY,
        body: { email: `${user}@example.com` },
      });
      expect(status).toBe(200);
    },
    async buy(body, pay) {
      const id = await open(body);
      await sandbox.pay(id, pay);
      return id;
    },
    async spend(amount) {
      spends += 1;
      const { status } = await stack.call('POST', '/api/credits/consume', {
        bearer: SERVICE_KEY,
        headers: { 'idempotency-key': `${user}-${spends}` },
        body: { user_id: user, amount },
      });
      return status;
    },
    async told(balance, { latestFirst = false } = {}) {
      const fresh = await events.since(form);
      await deliver(asTold(fresh, latestFirst));
      earlier.push(...fresh);
      if (balance !== null) await expectBalance(stage, user, balance);
      else await expectParked(stage, user);
    },
    async entries() {
      const rows = await database.query<{ type: string; amount: number }>(
        `select transaction_type as type, amount::int from credit_transactions
         where user_id = $1 order by entry_number`,
        [user],
      );
      return rows.map(({ type, amount }) => [type, amount]);
    },
  };
}

/** No user, no credits, and something that waits for him. */
async function expectParked({ database }: Stage, user: string) {
  const [row] = await database.query(
    `select (select count(*)::int from users u where u.id::text = $1) as users,
       (select count(*)::int from credit_transactions t where t.user_id = $1) as entries,
       exists (select from stripe_webhook_events e where e.status = 'parked' and e.waiting_for = $1) as waits`,
    [user],
  );
  expect(row).toEqual({ users: 0, entries: 0, waits: true });
}

/** The balance in the ledger, in the sum of the entries, in the lots, and in the mirror. */
async function expectBalance({ database, stack }: Stage, user: string, balance: number) {
  const [row] = await database.query(
    `select u.credits_balance::int as ledger, u.credits_version::int as version,
       (select coalesce(sum(t.amount), 0)::int from credit_transactions t where t.user_id = $1) as entries,
       (select coalesce(sum(g.remaining), 0)::int from credit_grants g where g.user_id = $1) - u.credits_debt::int as lots
     from users u where u.id::text = $1`,
    [user],
  );
  const version = row?.version;
  expect(row).toEqual({ ledger: balance, entries: balance, lots: balance, version });
  const check = () =>
    stack.call('POST', '/api/credits/check', {
      bearer: SERVICE_KEY,
      body: { user_id: user, amount: 1 },
    });
  const mirrored = await waitFor(async () => {
    const { body } = await check();
    return body.source === 'redis' && body.version === version ? body : null;
  }, 'the mirror');
  expect(mirrored).toMatchObject({ balance });
  // Of this user alone: proving everybody's books after each telling takes longer with each user.
  expect(await database.query('select * from purser.credit_drift(array[$1])', [user])).toEqual([]);
  const unsettled = await database.query(
    `select s.* from (select distinct p.entry_number from payments p
                      where p.user_id = $1 and p.entry_number is not null) paid,
       purser.settlement($1, paid.entry_number) s
     where s.target <> s.clawed`,
    [user],
  );
  expect(unsettled).toEqual([]);
}

function shuffled<T>(items: T[], random: () => number): T[] {
  return items
    .map((item) => ({ item, place: random() }))
    .sort((left, right) => left.place - right.place)
    .map(({ item }) => item);
}
