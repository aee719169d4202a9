import { describe, expect, it } from '@jest/globals';
import Stripe from 'stripe';
import { API_VERSION } from '../../src/sandbox/index.ts';
import { catalogue, testSandbox } from './support/sandbox.ts';
import { schemaVersion } from './support/stripeSchema.ts';

it('is checked against the API version that the SDK pins', () => {
  expect([schemaVersion, Stripe.API_VERSION]).toEqual([API_VERSION, API_VERSION]);
});

describe('products', () => {
  it('are created, read, changed and listed', async () => {
    const { stripe } = await testSandbox();
    const made = await stripe.products.create({
      id: 'prod_mine',
      name: '50 credits',
      description: 'A pack',
      metadata: { credits: '50' },
      marketing_features: [{ name: 'Never expire' }],
    });
    expect(made).toMatchObject({ id: 'prod_mine', active: true, metadata: { credits: '50' } });
    const changed = await stripe.products.update('prod_mine', {
      description: '',
      active: false,
      metadata: { credits: '', size: 'small' },
    });
    expect(changed).toMatchObject({
      description: null,
      active: false,
      metadata: { size: 'small' },
    });
    expect(await stripe.products.retrieve('prod_mine')).toEqual(changed);
    expect((await stripe.products.list({ active: false })).data).toHaveLength(1);
    expect((await stripe.products.list({ active: true })).data).toHaveLength(0);
    expect((await stripe.products.list({ ids: ['prod_mine', 'prod_x'] })).data).toHaveLength(1);
    const [updated] = (await stripe.events.list({ type: 'product.updated' })).data;
    expect(updated?.data.previous_attributes).toMatchObject({
      active: true,
      description: 'A pack',
      metadata: { credits: '50' },
    });
    expect(updated?.request?.id).toMatch(/^req_/);
    await expect(stripe.products.create({ id: 'prod_mine', name: 'again' })).rejects.toMatchObject({
      code: 'resource_already_exists',
    });
  });

  it('can bring their default price', async () => {
    const { stripe } = await testSandbox();
    const product = await stripe.products.create({
      name: 'Pack',
      default_price_data: { currency: 'USD', unit_amount: 500 },
      expand: ['default_price'],
    });
    expect(product.default_price).toMatchObject({
      unit_amount: 500,
      currency: 'usd',
      product: product.id,
    });
  });
});

describe('prices', () => {
  it('are found by lookup key with their product expanded', async () => {
    const sandbox = await testSandbox();
    await sandbox.seedCatalogue(catalogue);
    const found = await sandbox.stripe.prices.list({
      lookup_keys: ['pack_50', 'pack_200'],
      expand: ['data.product'],
    });
    expect(found.data).toMatchObject([
      { id: 'price_pack_50', type: 'one_time', recurring: null, product: { name: '50 credits' } },
    ]);
    expect(found.data[0]).not.toHaveProperty('currency_options');
  });

  it('move a lookup key only when told to', async () => {
    const sandbox = await testSandbox();
    await sandbox.seedCatalogue(catalogue);
    const { stripe } = sandbox;
    const next = {
      product: 'prod_pack_50',
      currency: 'usd',
      unit_amount: 600,
      lookup_key: 'pack_50',
    };
    await expect(stripe.prices.create(next)).rejects.toMatchObject({ param: 'lookup_key' });
    const moved = await stripe.prices.create({ ...next, transfer_lookup_key: true });
    expect((await stripe.prices.retrieve('price_pack_50')).lookup_key).toBeNull();
    expect(
      (await stripe.prices.list({ lookup_keys: ['pack_50'] })).data.map(({ id }) => id),
    ).toEqual([moved.id]);
  });

  it('keep amounts in other currencies and fractions of a cent', async () => {
    const sandbox = await testSandbox();
    await sandbox.seedCatalogue(catalogue);
    const { stripe } = sandbox;
    const price = await stripe.prices.create({
      product_data: { name: 'Token' },
      currency: 'usd',
      unit_amount_decimal: Stripe.Decimal.from('0.50'),
      currency_options: { jpy: { unit_amount: 7 } },
      recurring: { interval: 'year' },
      expand: ['currency_options', 'product'],
    });
    expect(price).toMatchObject({
      unit_amount: null,
      type: 'recurring',
      recurring: { interval: 'year', interval_count: 1, usage_type: 'licensed' },
      product: { name: 'Token' },
      currency_options: { jpy: { unit_amount: 7 }, usd: { unit_amount: null } },
    });
    expect(String(price.unit_amount_decimal)).toBe('0.5');
    const changed = await stripe.prices.update(price.id, {
      active: false,
      currency_options: { eur: { unit_amount: 1 } },
      expand: ['currency_options'],
    });
    expect(Object.keys(changed.currency_options ?? {}).sort()).toEqual(['eur', 'jpy', 'usd']);
    expect(
      (
        await stripe.prices.list({
          active: false,
          type: 'recurring',
          recurring: { interval: 'year' },
        })
      ).data,
    ).toHaveLength(1);
    expect((await stripe.prices.list({ recurring: { interval: 'week' } })).data).toHaveLength(0);
    expect(
      (await stripe.prices.list({ currency: 'usd', product: 'prod_pack_50' })).data,
    ).toHaveLength(2);
  });

  it.each<[string, Record<string, unknown>, string]>([
    ['no amount', {}, 'unit_amount'],
    ['two amounts', { unit_amount: 1, unit_amount_decimal: '1' }, 'unit_amount'],
    ['a negative amount', { unit_amount: -1 }, 'unit_amount'],
    ['an unknown product', { unit_amount: 1, product: 'prod_x' }, 'product'],
    ['an unknown currency', { unit_amount: 1, currency: 'zzz' }, 'currency'],
    [
      'tiers',
      { tiers: [{ up_to: 'inf', unit_amount: 1 }], billing_scheme: 'tiered' },
      'billing_scheme=tiered',
    ],
  ])('refuse %s', async (_name, change, param) => {
    const sandbox = await testSandbox();
    await sandbox.seedCatalogue(catalogue);
    await expect(
      sandbox.stripe.prices.create({
        product: 'prod_pack_50',
        currency: 'usd',
        ...change,
      } as never),
    ).rejects.toMatchObject({ type: 'StripeInvalidRequestError', param });
  });
});

describe('customers', () => {
  it('are created, changed, listed by e-mail and deleted', async () => {
    const { stripe } = await testSandbox();
    const made = await stripe.customers.create({
      email: 'ada@example.com',
      name: 'Ada',
      address: { country: 'GB' },
      metadata: { userId: 'u1', __proto: 'x' },
    });
    expect(made).toMatchObject({
      email: 'ada@example.com',
      address: { country: 'GB', city: null },
    });
    await stripe.customers.create({ email: 'bob@example.com' });
    const changed = await stripe.customers.update(made.id, {
      name: '',
      metadata: { userId: 'u2' },
    });
    expect(changed).toMatchObject({ name: null, metadata: { userId: 'u2', __proto: 'x' } });
    expect((await stripe.customers.list({ email: 'ada@example.com' })).data).toEqual([changed]);
    expect(await stripe.customers.del(made.id)).toEqual({
      id: made.id,
      object: 'customer',
      deleted: true,
    });
    expect(await stripe.customers.retrieve(made.id)).toMatchObject({ deleted: true });
    expect((await stripe.customers.list()).data).toHaveLength(1);
    await expect(stripe.customers.update(made.id, { name: 'x' })).rejects.toMatchObject({
      statusCode: 404,
    });
    expect((await stripe.events.list({ type: 'customer.*' })).data.map(({ type }) => type)).toEqual(
      ['customer.deleted', 'customer.updated', 'customer.created', 'customer.created'],
    );
  });

  it('make no event when an update changes nothing', async () => {
    const { stripe } = await testSandbox();
    const { id } = await stripe.customers.create({ name: 'Ada' });
    await stripe.customers.update(id, { name: 'Ada' });
    expect((await stripe.events.list({ type: 'customer.updated' })).data).toEqual([]);
  });
});

describe('lists', () => {
  it('page newest first, forward and backward, and say when there is more', async () => {
    const { stripe } = await testSandbox();
    const ids: string[] = [];
    for (let count = 0; count < 7; count += 1) ids.unshift((await stripe.customers.create({})).id);
    const first = await stripe.customers.list({ limit: 3 });
    expect(first).toMatchObject({ has_more: true, url: '/v1/customers' });
    expect(first.data.map(({ id }) => id)).toEqual(ids.slice(0, 3));
    const second = await stripe.customers.list({ limit: 3, starting_after: ids[2] as string });
    expect(second.data.map(({ id }) => id)).toEqual(ids.slice(3, 6));
    const last = await stripe.customers.list({ limit: 3, starting_after: ids[5] as string });
    expect(last).toMatchObject({ has_more: false, data: [{ id: ids[6] }] });
    const back = await stripe.customers.list({ limit: 3, ending_before: ids[5] as string });
    expect(back).toMatchObject({ has_more: true });
    expect(back.data.map(({ id }) => id)).toEqual(ids.slice(2, 5));
    const all = await stripe.customers.list({ limit: 2 }).autoPagingToArray({ limit: 100 });
    expect(all.map(({ id }) => id)).toEqual(ids);
  });

  it.each([
    ['limit 0', { limit: 0 }, 'limit'],
    ['limit 101', { limit: 101 }, 'limit'],
    ['an unknown cursor', { starting_after: 'cus_x' }, 'starting_after'],
    ['both cursors', { starting_after: 'a', ending_before: 'b' }, 'ending_before'],
    ['what cannot be expanded', { expand: ['data.colour'] }, 'expand'],
  ])('refuse %s', async (_name, params, param) => {
    const { stripe } = await testSandbox();
    await stripe.customers.create({});
    await expect(stripe.customers.list(params)).rejects.toMatchObject({ statusCode: 400, param });
  });
});

describe('a seeded catalogue', () => {
  it('can be seeded again without any effect, and brings changes', async () => {
    const sandbox = await testSandbox();
    await sandbox.seedCatalogue(catalogue);
    const before = (await sandbox.stripe.events.list()).data.length;
    await sandbox.seedCatalogue(catalogue);
    expect((await sandbox.stripe.events.list()).data).toHaveLength(before);
    const dearer = catalogue.prices.map((price) => ({
      ...price,
      unit_amount: price.unit_amount + 100,
    }));
    await sandbox.seedCatalogue({ products: catalogue.products, prices: dearer });
    expect(await sandbox.stripe.prices.retrieve('price_pack_50')).toMatchObject({
      unit_amount: 600,
    });
    expect((await sandbox.stripe.events.list({ type: 'price.updated' })).data).toHaveLength(3);
  });

  it('is refused whole when one entry is wrong', async () => {
    const sandbox = await testSandbox();
    const orphan = { id: 'price_o', product: 'prod_none', currency: 'usd', unit_amount: 1 };
    await expect(
      sandbox.seedCatalogue({ products: catalogue.products, prices: [orphan] }),
    ).rejects.toThrow("No such product: 'prod_none'");
    expect((await sandbox.stripe.products.list()).data).toEqual([]);
    await expect(
      sandbox.seedCatalogue({ products: [{ id: 'p', name: '' }], prices: [] }),
    ).rejects.toThrow('products.0.name');
  });
});
