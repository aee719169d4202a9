import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { testDatabase } from '../support/postgres.ts';
import { ADMIN_KEY, SERVICE_KEY, type Stack, startStack, waitFor } from '../support/stack.ts';
import { runIt, widest } from './support/runIt.ts';

/** Every command against a running server, with purchases paid in the sandbox. */
const database = testDatabase();
let stack: Stack;
let env: Record<string, string>;

beforeAll(async () => {
  stack = await startStack({
    connectionString: database.current.connectionString,
    adapter: 'pg',
    deliveries: true,
  });
  env = { PURSER_URL: stack.url, PURSER_ADMIN_KEY: ADMIN_KEY };
  await putUser('ada');
  await buy('ada');
});
afterAll(() => stack.stop());

async function putUser(userId: string, customer?: string): Promise<void> {
  const body = { email: `${userId}@example.com`, stripe_customer_id: customer };
  await stack.call('PUT', `/api/users/${userId}`, { bearer: SERVICE_KEY, body });
}

async function balanceOf(userId: string): Promise<number> {
  const { body } = await stack.call('GET', `/api/users/${userId}/credits`, { bearer: SERVICE_KEY });
  return body.balance;
}

async function buy(userId: string): Promise<string> {
  const { session } = await stack.sandbox.buy({
    price: 'pack_50',
    email: `${userId}@example.com`,
    metadata: { userId },
  });
  await waitFor(async () => (await balanceOf(userId)) === 50, `${userId} to have 50 credits`);
  return session.id;
}

const one = async <Row extends object>(sql: string, values: unknown[] = []) =>
  (await database.current.query<Row & Record<string, unknown>>(sql, values))[0] as Row;

describe('without what it needs', () => {
  it('says that no server answers, and how to start one', async () => {
    const { code, err } = await runIt(['events'], { ...env, PURSER_URL: 'http://127.0.0.1:9' });
    expect(code).toBe(2);
    expect(err).toMatch(/No server answers at http:\/\/127.0.0.1:9 .*npm start/);
  });

  it('says that the key is wrong, and which one it took', async () => {
    const { code, err } = await runIt(['events'], { ...env, PURSER_ADMIN_KEY: 'wrong' });
    expect(code).toBe(2);
    expect(err).toContain('does not know the key of PURSER_ADMIN_KEY');
  });

  it('says that a service key is no admin key', async () => {
    const { code, err } = await runIt(['events'], { ...env, PURSER_ADMIN_KEY: SERVICE_KEY });
    expect(code).toBe(2);
    expect(err).toContain('is no admin key');
  });

  it('sends the keys of this machine nowhere else', async () => {
    const { code, err } = await runIt(['events'], { PURSER_URL: 'https://purser.example.com' });
    expect(code).toBe(2);
    expect(err).toContain('local keys are sent to this machine only');
  });

  it('says that there is no key where no server was started', async () => {
    const { code, err } = await runIt(['events'], { PURSER_DATA_DIR: '/nonexistent' });
    expect(code).toBe(2);
    expect(err).toContain('PURSER_ADMIN_KEY is not set, and /nonexistent holds no keys.json');
  });

  it('tells another server from Purser', async () => {
    const { code, err } = await runIt(['events'], { ...env, PURSER_URL: stack.sandbox.origin });
    expect(code).toBe(2);
    expect(err).toContain('is not Purser');
  });

  it.each([
    [[], 'Usage: purser'],
    [['docter'], 'Did you mean doctor?'],
    [['events', '--limit', '0'], 'whole number from 1 to 100'],
    [['replay', '--since', 'yesterday'], 'how long ago: 30m, 6h, 2d'],
    [['user', 'fix', 'ada'], 'Say why with --reason'],
    [['replay'], 'Say which events'],
    [['replay', '--missed', '--type', 'invoice.paid'], '--missed takes --since and --dry-run only'],
  ])('explains wrong usage: %j', async (args, expected) => {
    const { code, out, err } = await runIt(args, env);
    expect(code).toBe(2);
    expect(`${out}${err}`).toContain(expected);
  });

  it.each(['doctor', 'events', 'replay', 'reconcile', 'user', 'demo'])(
    '%s --help fits 80 columns and ends with 0',
    async (command) => {
      const { code, out } = await runIt([command, '--help'], env);
      expect(code).toBe(0);
      expect(out).toContain(`purser ${command}`);
      expect(widest(out)).toBeLessThanOrEqual(80);
    },
  );

  it('migrate --help is its own', async () => {
    const { code, out } = await runIt(['migrate', '--help'], {});
    expect(code).toBe(0);
    expect(out).toContain('--dry-run');
  });
});

describe('events', () => {
  it('lists them within 80 columns, filtered by type and by the id of an object', async () => {
    const all = await runIt(['events'], env);
    expect(all.code).toBe(0);
    expect(widest(all.out)).toBeLessThanOrEqual(80);
    const some = await runIt(
      ['events', 'list', '--type', 'checkout.session.completed', '--json'],
      env,
    );
    const { data } = JSON.parse(some.out);
    expect(data).toHaveLength(1);
    const same = await runIt(['events', '-q', data[0].object_id, '--json'], env);
    expect(
      JSON.parse(same.out).data.map((event: { event_id: string }) => event.event_id),
    ).toContain(data[0].event_id);
  });

  it('shows one with what it wrote, and says what is not there', async () => {
    const { data } = JSON.parse(
      (await runIt(['events', '-t', 'checkout.session.completed', '--json'], env)).out,
    );
    const { code, out } = await runIt(['events', 'show', data[0].event_id, '--payload'], env);
    expect(code).toBe(0);
    expect(out).toMatch(/purchase +\+50 +ada/);
    expect(out).toContain('"type": "checkout.session.completed"');
    const none = await runIt(['events', 'show', 'evt_none'], env);
    expect(none.code).toBe(1);
    expect(none.err).toContain('There is no event evt_none');
  });

  it('says so when nothing fits', async () => {
    expect((await runIt(['events', '--status', 'dead'], env)).out).toBe(
      'No event fits this filter.',
    );
  });
});

describe('replay', () => {
  it('works on one event again without crediting twice, and tells what came of it', async () => {
    const { stripe_event_id: id } = await one<{ stripe_event_id: string }>(
      `select stripe_event_id from public.stripe_webhook_events where event_type = 'checkout.session.completed'`,
    );
    const { code, out } = await runIt(['replay', id], env);
    expect({ code, out }).toMatchObject({ code: 0 });
    expect(out).toMatch(/processed/);
    expect(await balanceOf('ada')).toBe(50);
  });

  it('only tells in a dry run, and asks before it works on many', async () => {
    await database.current.query(`
      select public.log_stripe_webhook_event('evt_log_' || n, 'invoice.paid', '{}') from generate_series(1, 3) n`);
    const dry = await runIt(['replay', '--status', 'logged', '--dry-run'], env);
    expect(dry).toMatchObject({ code: 0 });
    expect(dry.out).toContain('Would work again on 3 events:');
    const unasked = await runIt(['replay', '--status', 'logged'], env);
    expect(unasked.code).toBe(2);
    expect(unasked.err).toContain('add --yes');
    const still = await one<{ count: string }>(
      `select count(*) from public.stripe_webhook_events where status = 'logged'`,
    );
    expect(still.count).toBe('3');
  });

  it('works off hundreds as a replay with its progress, and cancels that by Ctrl-C', async () => {
    await database.current.query(`
      insert into public.stripe_webhook_events (stripe_event_id, event_type, event_data, status, created_at)
      select 'evt_old_' || n, 'customer.discount.created', '{}', 'ignored', clock_timestamp()
      from generate_series(1, 450) n`);
    const filter = ['--status', 'ignored', '--type', 'customer.discount.created', '--yes'];
    const late = new AbortController();
    const running = runIt(['replay', ...filter], env, late.signal);
    const begun = await waitFor(
      async () =>
        (await database.current.query<{ id: string }>('select id from public.webhook_replays'))[0],
      'the replay',
    );
    late.abort();
    const { code, err } = await running;
    const row = await one<{ status: string; requeued: number }>(
      'select status, requeued from public.webhook_replays where id = $1',
      [begun.id],
    );
    if (row.status === 'canceled') {
      expect(code).toBe(130);
      expect(err).toMatch(/Canceled: \d+ of 450 events are back/);
    } else {
      // It was quicker than the key.
      expect(err).toContain('went back to the inbox');
    }
  });

  it('fetches what was never delivered', async () => {
    await stack.sandbox.setSettings({ deliveries: 'off' });
    await putUser('eve');
    await stack.sandbox.buy({
      price: 'pack_50',
      email: 'eve@example.com',
      metadata: { userId: 'eve' },
    });
    await stack.sandbox.setSettings({ deliveries: 'on' });
    const dry = await runIt(['replay', '--missed', '--since', '1h', '--dry-run'], env);
    expect(dry.code).toBe(0);
    expect(dry.out).toMatch(/\d+ missing here would be fetched/);
    expect(await balanceOf('eve')).toBe(0);
    const { code, out } = await runIt(['replay', '--missed', '--since', '1h', '--json'], env);
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ complete: true });
    await waitFor(async () => (await balanceOf('eve')) === 50, 'eve to have her credits');
  });
});

describe('reconcile and user', () => {
  it('tells what a balance is made of', async () => {
    const balance = await runIt(['user', 'balance', 'ada'], env);
    expect(balance.code).toBe(0);
    expect(balance.out).toMatch(/ledger +50 +0 +50 +0/);
    expect((await runIt(['user', 'lots', 'ada'], env)).out).toMatch(
      /50 +50 +paid +100 +never +pack_50/,
    );
    expect((await runIt(['user', 'history', 'ada'], env)).out).toMatch(/purchase +\+50 +50/);
    expect((await runIt(['user', 'explain', 'ada'], env)).out).toContain(
      'bought pack_50, +50 credits',
    );
    expect((await runIt(['user', 'find', 'ad'], env)).out).toContain('ada@example.com');
    expect((await runIt(['user', 'find', 'zz'], env)).out).toBe('No user fits.');
    for (const verb of ['balance', 'lots', 'history', 'explain', 'check']) {
      const { code, err } = await runIt(['user', verb, 'nobody'], env);
      expect({ verb, code, err }).toMatchObject({
        code: 1,
        err: expect.stringContaining('nobody'),
      });
    }
  });

  it('finds a purchase that was never told of, previews the repair, and makes it once', async () => {
    const customer = await stack.stripe.customers.create({ email: 'tom@example.com' });
    await putUser('tom', customer.id);
    await stack.sandbox.setSettings({ deliveries: 'off' });
    await stack.sandbox.buy({
      price: 'pack_50',
      customer: customer.id,
      metadata: { userId: 'tom' },
    });
    await stack.sandbox.setSettings({ deliveries: 'on' });

    const check = await runIt(['user', 'check', 'tom'], env);
    expect(check.code).toBe(1);
    expect(check.out).toContain('missing_grant');
    expect(await balanceOf('tom')).toBe(0);

    const unasked = await runIt(['user', 'fix', 'tom', '--reason', 'he wrote'], env);
    expect({ code: unasked.code, err: unasked.err }).toMatchObject({ code: 2 });
    expect(unasked.out).toContain('would repair');
    expect(unasked.out).toContain('Balance: 0 now, 50 after the repair.');
    expect(await balanceOf('tom')).toBe(0);

    const fixed = await runIt(['user', 'fix', 'tom', '--reason', 'he wrote', '--yes'], env);
    expect(fixed.code).toBe(0);
    expect(fixed.out).toContain('Repaired 1 difference; the balance is 50.');
    expect(await balanceOf('tom')).toBe(50);
    expect(await runIt(['user', 'check', 'tom'], env)).toMatchObject({ code: 0 });
    const again = await runIt(['user', 'fix', 'tom', '--reason', 'he wrote', '--yes'], env);
    expect(again.out).toContain('there is nothing to repair');
  });

  it('reconciles all, and answers programs', async () => {
    const { code, out } = await runIt(['reconcile', '--since', '1d', '--json'], env);
    expect(JSON.parse(out)).toMatchObject({ outcome: 'done', dry_run: false });
    expect(code).toBe(0);
  });
});

describe('demo', () => {
  it('refuses to buy and refund where Stripe is not the sandbox of the server', async () => {
    const { code, err } = await runIt(['demo'], env);
    expect(code).toBe(2);
    expect(err).toContain('runs in test mode');
  });
});
