import { beforeEach, describe, expect, it } from '@jest/globals';
import { testDatabase } from '../support/postgres.ts';
import { callAsService } from '../support/sqlCall.ts';

const database = testDatabase();

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
