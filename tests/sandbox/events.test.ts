import { describe, expect, it } from '@jest/globals';
import { testSandbox } from './support/sandbox.ts';

const DAY_MS = 24 * 3_600_000;

describe('events', () => {
  it('say which request made them', async () => {
    const { stripe } = await testSandbox();
    const customer = await stripe.customers.create({}, { idempotencyKey: 'k1' });
    const [event] = (await stripe.events.list()).data;
    expect(event?.request).toEqual({ id: customer.lastResponse.requestId, idempotency_key: 'k1' });
    expect(await stripe.events.retrieve(event?.id ?? '')).toMatchObject({
      type: 'customer.created',
    });
  });

  it('keep their payload when the object changes', async () => {
    const { stripe } = await testSandbox();
    const { id } = await stripe.customers.create({ name: 'Ada' });
    await stripe.customers.update(id, { name: 'Grace' });
    const names = (await stripe.events.list()).data.map(({ data }) => [
      (data.object as { name?: string }).name,
      data.previous_attributes,
    ]);
    expect(names).toEqual([
      ['Grace', { name: 'Ada' }],
      ['Ada', undefined],
    ]);
  });

  it('are filtered by type, types and time, and page both ways', async () => {
    let now = Date.parse('2026-11-01T00:00:00Z');
    const { stripe } = await testSandbox({ now: () => now });
    for (const name of ['a', 'b', 'c']) {
      await stripe.products.create({ name });
      await stripe.customers.create({ name });
      now += 60_000;
    }
    const list = async (filter: Parameters<typeof stripe.events.list>[0]) =>
      (await stripe.events.list(filter)).data.map(
        ({ type, data }) => `${type.split('.')[0]} ${(data.object as { name?: string }).name}`,
      );
    expect(await list({ type: 'product.created' })).toEqual([
      'product c',
      'product b',
      'product a',
    ]);
    expect(await list({ types: ['product.created', 'customer.created'] })).toHaveLength(6);
    const second = Math.floor(Date.parse('2026-11-01T00:01:00Z') / 1_000);
    expect(await list({ created: { gte: second, lt: second + 60 } })).toEqual([
      'customer b',
      'product b',
    ]);
    expect(await list({ created: second })).toEqual(['customer b', 'product b']);
    const first = await stripe.events.list({ limit: 2 });
    const older = await stripe.events.list({
      limit: 2,
      starting_after: first.data[1]?.id as string,
    });
    const newer = await stripe.events.list({
      limit: 2,
      ending_before: older.data[0]?.id as string,
    });
    expect(newer.data).toEqual(first.data);
    expect([first.has_more, older.has_more, newer.has_more]).toEqual([true, true, false]);
    await expect(stripe.events.list({ type: 'a', types: ['b'] })).rejects.toMatchObject({
      param: 'type',
    });
  });

  it('can be read for 30 days', async () => {
    let now = Date.parse('2026-10-01T00:00:00Z');
    const { stripe } = await testSandbox({ now: () => now });
    await stripe.customers.create({});
    const [event] = (await stripe.events.list()).data;
    now += 30 * DAY_MS;
    expect((await stripe.events.list()).data).toHaveLength(1);
    now += 1_000;
    expect((await stripe.events.list()).data).toEqual([]);
    await expect(stripe.events.retrieve(event?.id ?? '')).rejects.toMatchObject({
      statusCode: 404,
    });
  });
});

describe('a seed', () => {
  it('makes the same ids and keys again', async () => {
    const [one, two, other] = [
      await testSandbox({ seed: 'same' }),
      await testSandbox({ seed: 'same' }),
      await testSandbox({ seed: 'other' }),
    ];
    expect(two.secretKey).toBe(one.secretKey);
    expect(other.secretKey).not.toBe(one.secretKey);
    const ids = await Promise.all(
      [one, two, other].map(async ({ stripe }) => (await stripe.customers.create({})).id),
    );
    expect(ids[1]).toBe(ids[0]);
    expect(ids[2]).not.toBe(ids[0]);
  });
});
