import { beforeEach, describe, expect, it } from '@jest/globals';
import { testDatabase } from '../support/postgres.ts';
import { callAsService, concurrently } from '../support/sqlCall.ts';
import { waitFor } from '../support/stack.ts';
import { migrationFilesOfFolder } from '../support/testCluster.ts';

const database = testDatabase();
const [file] = migrationFilesOfFolder().filter(({ name }) => name === 'cache_store_migration.sql');

const cache = (key: string, args = {}) =>
  callAsService(database.current, 'cache_stripe_data', {
    p_cache_key: key,
    p_data: { key },
    ...args,
  });
const read = (key: string, args = {}) =>
  callAsService(database.current, 'get_cached_stripe_data', { p_cache_key: key, ...args });

async function keys(): Promise<string[]> {
  const rows = await database.current.query<{ key: string }>(
    'select key from cache_store order by key',
  );
  return rows.map(({ key }) => key);
}

beforeEach(async () => {
  await callAsService(database.current, 'invalidate_stripe_cache', { p_pattern: '%' });
});

describe('the cache of Stripe answers', () => {
  it('gives an answer back for an hour', async () => {
    await cache('stripe:products');
    expect(await read('stripe:products')).toEqual({ key: 'stripe:products' });
    const in59 = new Date(Date.now() + 59 * 60_000).toISOString();
    const in61 = new Date(Date.now() + 61 * 60_000).toISOString();
    expect(await read('stripe:products', { p_now: in59 })).toEqual({ key: 'stripe:products' });
    expect(await read('stripe:products', { p_now: in61 })).toBeNull();
    expect(
      await callAsService(database.current, 'read_stripe_cache', {
        p_cache_key: 'stripe:products',
        p_now: in61,
      }),
    ).toMatchObject({ outcome: 'ended', value: { key: 'stripe:products' } });
  });

  it('replaces an answer, and begins its time anew', async () => {
    await cache('stripe:prices', { p_ttl_seconds: 60 });
    await cache('stripe:prices', { p_data: { new: true }, p_ttl_seconds: 21600 });
    const in5h = new Date(Date.now() + 5 * 3600_000).toISOString();
    expect(await read('stripe:prices', { p_now: in5h })).toEqual({ new: true });
    expect(await keys()).toEqual(['stripe:prices']);
  });

  it.each([
    ['an empty key', { p_cache_key: '' }],
    ['no data', { p_data: null }],
    ['no time to live', { p_ttl_seconds: 0 }],
    ['a time to live of a year', { p_ttl_seconds: 31_536_000 }],
  ])('refuses %s', async (_what, args) => {
    await expect(cache('stripe:products', args)).rejects.toMatchObject({ code: 'PT400' });
    expect(await keys()).toEqual([]);
  });

  it.each([
    ['stripe:product%', ['stripe:price:1']],
    ['stripe:product:1', ['stripe:price:1', 'stripe:products']],
    ['stripe:product:\\%', ['stripe:price:1', 'stripe:product:1', 'stripe:products']],
    ['%', []],
  ])('drops by the pattern %s', async (pattern, left) => {
    for (const key of ['stripe:products', 'stripe:product:1', 'stripe:price:1']) await cache(key);
    const dropped = await callAsService(database.current, 'invalidate_stripe_cache', {
      p_pattern: pattern,
    });
    expect(dropped).toBe(3 - left.length);
    expect(await keys()).toEqual(left);
  });

  it('leaves entries of other categories alone', async () => {
    await database.current.query(
      `begin; set local role purser_ledger;
       insert into cache_store (key, value, category, expires_at) values ('mine', '1', 'app', now() + interval '1 day');
       reset role; commit`,
    );
    await callAsService(database.current, 'invalidate_stripe_cache', { p_pattern: '%' });
    expect(await keys()).toEqual(['mine']);
    expect(await read('mine')).toBeNull();
    await database.current.query(`delete from cache_store where key = 'mine'`);
  });

  it.each([
    [
      'product.updated',
      'prod_1',
      [
        'stripe:customer:cus_1',
        'stripe:price:price_1',
        'stripe:product:prod_10',
        'stripe:subscription:sub_1',
      ],
    ],
    [
      'price.created',
      'price_1',
      [
        'stripe:customer:cus_1',
        'stripe:product:prod_1',
        'stripe:product:prod_10',
        'stripe:products',
        'stripe:subscription:sub_1',
      ],
    ],
    [
      'customer.updated',
      'cus_1',
      [
        'stripe:price:price_1',
        'stripe:prices',
        'stripe:product:prod_1',
        'stripe:product:prod_10',
        'stripe:products',
        'stripe:subscription:sub_1',
      ],
    ],
    [
      'customer.subscription.updated',
      'sub_1',
      [
        'stripe:customer:cus_1',
        'stripe:price:price_1',
        'stripe:prices',
        'stripe:product:prod_1',
        'stripe:product:prod_10',
        'stripe:products',
      ],
    ],
    [
      'product.updated',
      '%',
      [
        'stripe:customer:cus_1',
        'stripe:price:price_1',
        'stripe:product:prod_1',
        'stripe:product:prod_10',
        'stripe:subscription:sub_1',
      ],
    ],
    [
      'invoice.paid',
      'prod_1',
      [
        'stripe:customer:cus_1',
        'stripe:price:price_1',
        'stripe:prices',
        'stripe:product:prod_1',
        'stripe:product:prod_10',
        'stripe:products',
        'stripe:subscription:sub_1',
      ],
    ],
  ])('%s of %s makes old just what it is about', async (type, id, left) => {
    for (const key of [
      'stripe:products',
      'stripe:product:prod_1',
      'stripe:product:prod_10',
      'stripe:prices',
      'stripe:price:price_1',
      'stripe:customer:cus_1',
      'stripe:subscription:sub_1',
    ]) {
      await cache(key);
    }
    await callAsService(database.current, 'invalidate_stripe_cache_from_webhook', {
      p_event_type: type,
      p_object_id: id,
    });
    expect(await keys()).toEqual(left);
  });

  it('adds hits up, and drops what ended over a day ago', async () => {
    await cache('stripe:products');
    await cache('stripe:price:old', { p_now: '2020-01-01T00:00:00Z' });
    const answer = await callAsService(database.current, 'count_cache_hits', {
      p_hits: [
        { key: 'stripe:products', hits: 2 },
        { key: 'stripe:products', hits: 3 },
        { key: 'gone', hits: 1 },
      ],
    });
    expect(answer).toEqual({ counted: 1, dropped: 1 });
    const [row] = await database.current.query<{ access_count: string }>(
      'select access_count from cache_store',
    );
    expect(Number(row?.access_count)).toBe(5);
  });
});

const lookUp = (key: string, args = {}) =>
  callAsService(database.current, 'read_stripe_cache', { p_cache_key: key, ...args });
const hear = (type: string, id: string) =>
  callAsService(database.current, 'invalidate_stripe_cache_from_webhook', {
    p_event_type: type,
    p_object_id: id,
  });
async function versions(): Promise<string[]> {
  const rows = await database.current.query<{ key: string }>(
    'select key from cache_versions order by key',
  );
  return rows.map(({ key }) => key);
}

it('takes the place of the functions of before, so that a call by names means one of them', async () => {
  await cache('stripe:prices');
  await database.current.query(
    `begin; grant create on schema public to purser_ledger; set local role purser_ledger;
     drop table cache_versions;
     drop function cache_stripe_data(text, jsonb, integer, timestamptz, uuid);
     create function cache_stripe_data(
       p_cache_key text, p_data jsonb, p_ttl_seconds integer default 3600, p_now timestamptz default null)
     returns jsonb language sql as 'select null::jsonb';
     reset role; revoke create on schema public from purser_ledger; commit`,
  );
  for (let run = 0; run < 2; run += 1) {
    await database.current.query(`begin; ${file?.sql}; commit`);
  }
  expect(await read('stripe:prices')).toEqual({ key: 'stripe:prices' });
  expect(await cache('stripe:prices', { p_data: { new: true } })).toMatchObject({
    outcome: 'applied',
  });
  expect(await read('stripe:prices')).toEqual({ new: true });
});

describe('the version of a key', () => {
  beforeEach(async () => {
    await database.current.query(
      'begin; set local role purser_ledger; delete from cache_versions; reset role; commit',
    );
  });

  it('stays the same from look-up to look-up, whatever is stored', async () => {
    const { outcome, version } = await lookUp('stripe:prices');
    expect(outcome).toBe('miss');
    await cache('stripe:prices');
    expect(await cache('stripe:prices', { p_version: version })).toMatchObject({
      outcome: 'applied',
    });
    expect(await lookUp('stripe:prices')).toMatchObject({ outcome: 'hit', version });
  });

  it.each([
    ['an event', () => hear('price.updated', 'price_1')],
    ['an event about its product', () => hear('product.updated', 'prod_1')],
    [
      'a pattern',
      () =>
        callAsService(database.current, 'invalidate_stripe_cache', { p_pattern: 'stripe:price%' }),
    ],
  ])('is another one after %s, and the old one stores nothing', async (_what, invalidate) => {
    const { version } = await lookUp('stripe:prices');
    await invalidate();
    expect(await cache('stripe:prices', { p_version: version })).toEqual({
      outcome: 'outdated',
      cache_key: 'stripe:prices',
      expires_at: null,
    });
    expect(await keys()).toEqual([]);
    const next = await lookUp('stripe:prices');
    expect(next.version).not.toBe(version);
    expect(await cache('stripe:prices', { p_version: next.version })).toMatchObject({
      outcome: 'applied',
    });
  });

  it('is that of its key alone', async () => {
    const { version } = await lookUp('stripe:prices');
    expect(await cache('stripe:products', { p_version: version })).toMatchObject({
      outcome: 'outdated',
    });
    await hear('customer.updated', 'cus_1');
    expect(await cache('stripe:prices', { p_version: version })).toMatchObject({
      outcome: 'applied',
    });
  });

  it('is not asked of whoever stores without one', async () => {
    await lookUp('stripe:prices');
    await hear('price.updated', 'price_1');
    expect(await cache('stripe:prices')).toMatchObject({ outcome: 'applied' });
    expect(await read('stripe:prices')).toEqual({ key: 'stripe:prices' });
  });

  it('makes an event wait for who is storing under it, and drop what he has stored', async () => {
    const { version } = await lookUp('stripe:prices');
    const heard = await database.current.asRole('service_role', {}, async (client) => {
      await client.query(`select cache_stripe_data('stripe:prices', '{}', p_version => $1)`, [
        version,
      ]);
      const waiting = hear('price.updated', 'price_1');
      await waitFor(async () => {
        const waits = await database.current.query(
          `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
             and query like '%invalidate_stripe_cache_from_webhook%'`,
        );
        return waits.length === 1;
      }, 'the event to wait');
      return { waiting };
    });
    expect(await heard.waiting).toBe(1);
    expect(await keys()).toEqual([]);
  });

  it('is the old one again after an event that was not written in the end', async () => {
    const { version } = await lookUp('stripe:prices');
    await database.current
      .asRole('service_role', {}, async (client) => {
        await client.query(
          `select invalidate_stripe_cache_from_webhook('price.updated', 'price_1')`,
        );
        // Nobody waits for an event that is being written: what is on its way counts as old.
        expect(await cache('stripe:prices', { p_version: version })).toMatchObject({
          outcome: 'outdated',
        });
        throw new Error('undone');
      })
      .catch((error: Error) => expect(error.message).toBe('undone'));
    expect(await cache('stripe:prices', { p_version: version })).toMatchObject({
      outcome: 'applied',
    });
  });

  it('is kept of keys that are looked up, not of all that events are about', async () => {
    await lookUp('stripe:prices');
    for (const id of ['cus_1', 'cus_2', 'cus_3']) {
      await hear('customer.updated', id);
      await hear('customer.subscription.updated', id);
      await hear('price.updated', id);
    }
    expect(await versions()).toEqual(['stripe:prices']);
  });

  it('is forgotten a day after the key was first looked up, where nothing is kept under it', async () => {
    const inADay = new Date(Date.now() + 24 * 3600_000 + 60_000).toISOString();
    const { version } = await lookUp('stripe:price:gone');
    await lookUp('stripe:prices');
    await cache('stripe:prices');
    const clean = { p_hits: [] };
    await callAsService(database.current, 'count_cache_hits', clean);
    expect(await versions()).toEqual(['stripe:price:gone', 'stripe:prices']);
    await callAsService(database.current, 'count_cache_hits', { ...clean, p_now: inADay });
    expect(await versions()).toEqual(['stripe:prices']);
    // Whoever asked under it cannot know what happened since.
    await lookUp('stripe:price:gone');
    expect(await cache('stripe:price:gone', { p_version: version })).toMatchObject({
      outcome: 'outdated',
    });
  });

  it.each(['', 'k'.repeat(501)])('is refused for a key that nothing is kept under', async (key) => {
    await expect(lookUp(key)).rejects.toMatchObject({ code: 'PT400' });
  });

  it('is one for a crowd that looks a key up for the first time', async () => {
    const seen = await concurrently(20, () => lookUp('stripe:prices'));
    expect(new Set(seen.map(({ version }) => version)).size).toBe(1);
    expect(seen[0]?.version).toEqual(expect.any(String));
  });
});
