import { describe, expect, it } from '@jest/globals';
import { eventually, openSession, receiver, refusingUrl, testSandbox } from './support/sandbox.ts';

const PAID = ['checkout.session.completed'];

/** An endpoint that takes everything and never answers. */
async function silentUrl(): Promise<string> {
  const hook = await receiver();
  hook.answer = () => new Promise(() => {});
  return hook.url;
}

describe('deliveries', () => {
  it('are signed so that the SDK accepts them, and come for every kind of event', async () => {
    const sandbox = await testSandbox();
    const hook = await receiver();
    const { secret } = await sandbox.ensureWebhookEndpoint({ url: hook.url });
    expect(secret).toBe(sandbox.webhookSecret);
    const session = await openSession(sandbox, { metadata: { name: 'Zoë ☕' } });
    await sandbox.pay(session.id);
    const expected = (await sandbox.stripe.events.list({ limit: 100 })).data.map(({ id }) => id);
    await eventually(() =>
      expect(new Set(hook.received.map(({ event }) => event.id))).toEqual(new Set(expected)),
    );
    for (const { body, signature, event } of hook.received) {
      expect(sandbox.stripe.webhooks.constructEvent(body, signature, secret)).toEqual(event);
      expect(() =>
        sandbox.stripe.webhooks.constructEvent(JSON.stringify(event), signature, secret),
      ).toThrow();
      expect(() =>
        sandbox.stripe.webhooks.constructEvent(body, signature, 'whsec_other'),
      ).toThrow();
    }
  });

  it('go only to endpoints that listen to the type, are enabled and still exist', async () => {
    const sandbox = await testSandbox();
    const { stripe } = sandbox;
    const [all, paid, off] = [await receiver(), await receiver(), await receiver()];
    await stripe.webhookEndpoints.create({ url: all.url, enabled_events: ['*'] });
    const listed = await stripe.webhookEndpoints.create({
      url: paid.url,
      enabled_events: ['checkout.session.completed'],
      api_version: '2026-10-28.endive',
      metadata: { for: 'purser' },
    });
    expect(listed.secret).toMatch(/^whsec_/);
    expect(await stripe.webhookEndpoints.retrieve(listed.id)).not.toHaveProperty('secret');
    const disabled = await stripe.webhookEndpoints.create({ url: off.url, enabled_events: ['*'] });
    expect(await stripe.webhookEndpoints.update(disabled.id, { disabled: true })).toMatchObject({
      status: 'disabled',
    });
    const session = await openSession(sandbox);
    await sandbox.pay(session.id);
    await eventually(() => expect(all.types()).toContain('checkout.session.completed'));
    await eventually(() => expect(paid.types()).toEqual(PAID));
    expect(off.types()).toEqual([]);
    expect((await stripe.webhookEndpoints.list()).data).toHaveLength(3);
    await stripe.webhookEndpoints.del(listed.id);
    await stripe.customers.create({});
    await eventually(() => expect(all.types()).toContain('customer.created'));
    expect(paid.types()).toEqual(PAID);
  });

  it.each([
    ['a misspelt event', { enabled_events: ['checkout.session.complete'] }, 'enabled_events[0]'],
    ['no events', { enabled_events: [] }, 'enabled_events'],
    ['an API version it cannot render', { api_version: '2019-12-03' }, 'api_version'],
    ['a bad URL', { url: 'example.com' }, 'url'],
  ])('are not promised to an endpoint with %s', async (_name, change, param) => {
    const { stripe } = await testSandbox();
    await expect(
      stripe.webhookEndpoints.create({
        url: 'http://127.0.0.1:1/',
        enabled_events: ['*'],
        ...change,
      } as never),
    ).rejects.toMatchObject({ statusCode: 400, param });
  });

  it('are tried again with a fresh signature until the endpoint takes them', async () => {
    const sandbox = await testSandbox({ retryScheduleMs: [1_100, 20, 20] });
    const hook = await receiver();
    hook.answer = (count) => [500, 302, 200][count - 1] ?? 200;
    const { secret } = await sandbox.ensureWebhookEndpoint({ url: hook.url, enabledEvents: PAID });
    const session = await openSession(sandbox);
    await sandbox.pay(session.id);
    const [event] = (await sandbox.stripe.events.list({ types: PAID })).data;
    expect(event?.pending_webhooks).toBe(1);
    await eventually(() => expect(hook.received).toHaveLength(3));
    const stamps = hook.received.map(({ signature }) => Number(/t=(\d+)/.exec(signature)?.[1]));
    expect(stamps[1]).toBeGreaterThan(stamps[0] ?? 0);
    for (const { body, signature } of hook.received)
      sandbox.stripe.webhooks.constructEvent(body, signature, secret);
    expect(new Set(hook.received.map(({ event: told }) => told.id)).size).toBe(1);
    await eventually(async () =>
      expect((await sandbox.stripe.events.retrieve(event?.id ?? '')).pending_webhooks).toBe(0),
    );
    const [delivery] = await sandbox.deliveries({ event: event?.id ?? '' });
    expect(delivery).toMatchObject({ status: 'succeeded', tries: 2, next_attempt_at: null });
    expect(delivery?.attempts.map(({ status_code: code }) => code)).toEqual([500, 302, 200]);
  });

  // A refused connection has all the time it needs: else a busy machine would call it silent.
  it.each([
    ['refuses', refusingUrl, 10_000, expect.stringContaining('ECONNREFUSED')],
    ['is silent', silentUrl, 60, 'No answer in time.'],
  ] as const)(
    'are given up when the schedule ends, and stay visible as undelivered: it %s',
    async (_does, where, attemptTimeoutMs, error) => {
      const sandbox = await testSandbox({ retryScheduleMs: [10, 10], attemptTimeoutMs });
      await sandbox.ensureWebhookEndpoint({ url: await where(), enabledEvents: PAID });
      const session = await openSession(sandbox);
      await sandbox.pay(session.id);
      const [failed] = await eventually(async () => {
        const found = await sandbox.deliveries({ status: 'failed' });
        expect(found).toHaveLength(1);
        return found;
      });
      expect(failed?.attempts.map((attempt) => attempt.error)).toEqual(Array(3).fill(error));
      const missed = await sandbox.stripe.events.list({ delivery_success: false });
      expect(missed.data).toMatchObject([
        { type: 'checkout.session.completed', pending_webhooks: 1 },
      ]);
      expect(
        (await sandbox.stripe.events.list({ delivery_success: true, types: PAID })).data,
      ).toEqual([]);
    },
  );

  it('of different events run at the same time', async () => {
    const sandbox = await testSandbox();
    const hook = await receiver();
    const waiting: ((status: number) => void)[] = [];
    hook.answer = () => new Promise((resolve) => waiting.push(resolve));
    await sandbox.ensureWebhookEndpoint({ url: hook.url, enabledEvents: ['customer.created'] });
    for (let count = 0; count < 5; count += 1) await sandbox.stripe.customers.create({});
    await eventually(() => expect(waiting).toHaveLength(5));
    for (const release of waiting) release(200);
    await eventually(async () =>
      expect(await sandbox.deliveries({ status: 'succeeded' })).toHaveLength(5),
    );
  });

  it('can be sent once more, with a signature of now', async () => {
    const sandbox = await testSandbox();
    const hook = await receiver();
    await sandbox.ensureWebhookEndpoint({ url: hook.url, enabledEvents: PAID });
    const session = await openSession(sandbox);
    await sandbox.pay(session.id);
    await eventually(() => expect(hook.received).toHaveLength(1));
    await sandbox.resend(hook.received[0]?.event.id ?? '');
    await eventually(() => expect(hook.received).toHaveLength(2));
    await expect(sandbox.resend('evt_x')).rejects.toThrow("No such event: 'evt_x'");
  });

  it('follow a named endpoint to its new URL', async () => {
    const sandbox = await testSandbox();
    const [before, after] = [await receiver(), await receiver()];
    const first = await sandbox.ensureWebhookEndpoint({
      url: before.url,
      name: 'app',
      secret: 'whsec_mine',
    });
    const second = await sandbox.ensureWebhookEndpoint({ url: after.url, name: 'app' });
    expect(second).toEqual(first);
    await sandbox.stripe.customers.create({});
    await eventually(() => expect(after.types()).toEqual(['customer.created']));
    expect(before.types()).toEqual([]);
  });
});

describe('faults', () => {
  async function faulty(
    faults: Parameters<Awaited<ReturnType<typeof testSandbox>>['setFaults']>[0],
  ) {
    const sandbox = await testSandbox();
    const hook = await receiver();
    const { secret } = await sandbox.ensureWebhookEndpoint({ url: hook.url });
    await sandbox.setFaults(faults);
    return { sandbox, hook, secret, stripe: sandbox.stripe };
  }

  it('duplicate the first attempt n times', async () => {
    const { stripe, hook } = await faulty({ duplicate: 7, times: 1 });
    await stripe.customers.create({});
    await eventually(() => expect(hook.received).toHaveLength(8));
    await stripe.products.create({ name: 'after the fault' });
    await eventually(() => expect(hook.received).toHaveLength(9));
    expect(new Set(hook.received.map(({ event }) => event.id)).size).toBe(2);
  });

  it('drop a delivery, which the events API still has', async () => {
    const { sandbox, stripe, hook } = await faulty({ drop: true, types: ['customer.created'] });
    await stripe.customers.create({});
    await stripe.products.create({ name: 'x' });
    await eventually(() => expect(hook.types()).toEqual(['product.created']));
    const [lost] = (await stripe.events.list({ delivery_success: false })).data;
    expect(lost?.type).toBe('customer.created');
    expect(await sandbox.deliveries({ status: 'dropped' })).toMatchObject([
      { event: lost?.id, attempts: [] },
    ]);
    await sandbox.setFaults({});
    await sandbox.resend(lost?.id ?? '');
    await eventually(() => expect(hook.types()).toContain('customer.created'));
    await eventually(async () =>
      expect((await stripe.events.list({ delivery_success: false })).data).toEqual([]),
    );
  });

  it('sign the first attempt with a wrong secret, and the next one rightly', async () => {
    const { stripe, hook, secret } = await faulty({ wrong_secret: true });
    hook.answer = (count) => (count === 1 ? 400 : 200);
    await stripe.customers.create({});
    await eventually(() => expect(hook.received).toHaveLength(2));
    const verify = (at: number) => () =>
      stripe.webhooks.constructEvent(
        hook.received[at]?.body ?? '',
        hook.received[at]?.signature ?? '',
        secret,
      );
    expect(verify(0)).toThrow('No signatures found');
    expect(verify(1)).not.toThrow();
  });

  it('reorder: the last event comes first', async () => {
    const { sandbox, hook } = await faulty({ reorder: 3 });
    // In one call, so that no pause between them ends the waiting for company.
    const products = ['a', 'b', 'c'].map((name) => ({ id: `prod_${name}`, name }));
    await sandbox.seedCatalogue({ products, prices: [] });
    await eventually(() => expect(hook.received).toHaveLength(3));
    const names = hook.received.map(({ event }) => (event.data.object as { name?: string }).name);
    expect(names).toEqual(['c', 'b', 'a']);
  });

  it('reorder lets go of a few when no more come', async () => {
    const { stripe, hook } = await faulty({ reorder: 100 });
    for (const name of ['a', 'b']) await stripe.products.create({ name });
    await eventually(() => expect(hook.received).toHaveLength(2));
  });

  it('delay the first attempt', async () => {
    const { sandbox, stripe, hook } = await faulty({ delay_ms: 150, times: 1 });
    await stripe.customers.create({});
    const [delivery] = await sandbox.deliveries();
    expect(delivery?.next_attempt_at).toBe((delivery?.created ?? 0) + 150);
    await eventually(() => expect(hook.received).toHaveLength(1));
    expect(hook.received[0]?.at).toBeGreaterThanOrEqual((delivery?.created ?? 0) + 150);
  });

  it('lose the answer: what the endpoint took is sent again', async () => {
    const { sandbox, stripe, hook } = await faulty({ lose_answer: 2, times: 1 });
    await stripe.customers.create({});
    await eventually(() => expect(hook.received).toHaveLength(3));
    expect(new Set(hook.received.map(({ event }) => event.id)).size).toBe(1);
    const [delivery] = await sandbox.deliveries();
    expect(delivery?.attempts.map(({ error }) => error !== null)).toEqual([true, true, false]);
  });

  it('are different for two endpoints', async () => {
    const sandbox = await testSandbox();
    const [well, ill] = [await receiver(), await receiver()];
    await sandbox.ensureWebhookEndpoint({ url: well.url });
    const { id } = await sandbox.ensureWebhookEndpoint({ url: ill.url });
    await sandbox.setFaults([
      { duplicate: 2, types: ['product.created'], endpoints: [id] },
      { drop: true, endpoints: [id] },
    ]);
    await sandbox.stripe.customers.create({});
    await sandbox.stripe.products.create({ name: 'x' });
    await eventually(() => expect(well.received).toHaveLength(2));
    await eventually(() => expect(ill.types()).toEqual(Array(3).fill('product.created')));
  });

  it('hit a share of the deliveries, the same ones again with the same seed', async () => {
    const hits = async () => {
      const { sandbox, stripe } = await faulty({ drop: true, probability: 0.5 });
      for (let count = 0; count < 40; count += 1) await stripe.customers.create({});
      return (await sandbox.deliveries({ status: 'dropped' })).map(({ id }) => id);
    };
    const first = await hits();
    expect(first.length).toBeGreaterThan(5);
    expect(first.length).toBeLessThan(35);
    expect(await hits()).toEqual(first);
  });

  it('give every rule a chance of its own', async () => {
    const { sandbox, stripe } = await faulty({});
    await sandbox.setFaults([
      { drop: true, probability: 0.3 },
      { duplicate: 1, probability: 0.3 },
    ]);
    for (let count = 0; count < 40; count += 1) await stripe.customers.create({});
    const kinds = (await sandbox.deliveries()).map(({ fault }) => Object.keys(fault ?? {})[0]);
    expect(new Set(kinds)).toEqual(new Set(['drop', 'duplicate', undefined]));
  });

  it('take an endpoint down: everything fails and comes again when it is up', async () => {
    const { sandbox, stripe, hook } = await faulty({ down: true });
    await stripe.customers.create({});
    const refused = await eventually(async () => {
      const [found] = await sandbox.deliveries();
      expect(found?.attempts.length).toBeGreaterThan(0);
      return found;
    });
    expect(refused?.attempts[0]).toMatchObject({
      status_code: null,
      error: expect.stringContaining('is down'),
    });
    expect(hook.received).toEqual([]);
    await sandbox.setFaults({});
    await eventually(async () => {
      const [found] = await sandbox.deliveries();
      expect(['succeeded', 'failed']).toContain(found?.status);
    });
    await stripe.products.create({ name: 'x' });
    await eventually(() => expect(hook.types()).toContain('product.created'));
  });

  it('can end at a time of the clock, and the retries after it arrive', async () => {
    const sandbox = await testSandbox({ retryScheduleMs: [3_600_000, 7_200_000] });
    const hook = await receiver();
    await sandbox.ensureWebhookEndpoint({ url: hook.url });
    const { now } = await sandbox.freeze();
    await sandbox.setFaults({ down: true, down_until: now + 7_200 });
    await sandbox.stripe.customers.create({});
    await sandbox.advance({ hours: 1 });
    expect(hook.received).toEqual([]);
    await sandbox.advance({ hours: 2 });
    expect(hook.types()).toEqual(['customer.created']);
    const [delivery] = await sandbox.deliveries();
    expect(delivery?.attempts.map(({ error }) => error === null)).toEqual([false, false, true]);
  });

  it('are refused when they say two things', async () => {
    const sandbox = await testSandbox();
    await expect(sandbox.setFaults({ down: true, times: 2 })).rejects.toThrow('use down_until');
    await expect(sandbox.setFaults({ probability: 2 })).rejects.toThrow('rules.0.probability');
  });

  it('are refused when they could never break anything', async () => {
    const sandbox = await testSandbox();
    const { id } = await sandbox.ensureWebhookEndpoint({ url: 'http://127.0.0.1:9/' });
    const mistakes: [Parameters<typeof sandbox.setFaults>[0], string][] = [
      [{ drop: true, types: ['invoice.payed'] }, 'invoice.payed is not an event type'],
      [{ drop: true, types: ['v1.invoice.paid'] }, 'Leave v1. away'],
      [{ drop: true, endpoints: ['we_gone'] }, "No such webhook endpoint: 'we_gone'"],
      [{ types: ['invoice.paid'] }, 'rules.0: says what is hit, and not what goes wrong'],
      [[{ drop: true }, { duplicate: 0, times: 1 }], 'rules.1: says what is hit'],
    ];
    await sandbox.setFaults({ drop: true, endpoints: [id], types: ['invoice.paid'] });
    for (const [faults, message] of mistakes) {
      await expect(sandbox.setFaults(faults)).rejects.toThrow(message);
    }
    // A refused change leaves the faults as they were; an empty one ends them.
    expect((await sandbox.status()).faults).toHaveLength(1);
    await sandbox.setFaults({});
    expect((await sandbox.status()).faults).toEqual([]);
    await sandbox.setApiFaults({ status: 500, path: '/v1/refunds' });
    await expect(sandbox.setApiFaults({ status: 500, path: '/v1/refund' })).rejects.toThrow(
      'rules.0.path: no call of the sandbox begins with /v1/refund',
    );
  });

  it('are found by event, type and status, and a misspelt filter is refused', async () => {
    const sandbox = await testSandbox();
    const hook = await receiver();
    await sandbox.ensureWebhookEndpoint({ url: hook.url });
    await sandbox.stripe.customers.create({});
    await eventually(async () =>
      expect(await sandbox.deliveries({ status: 'succeeded' })).toHaveLength(1),
    );
    expect(await sandbox.deliveries({ type: 'customer.deleted' })).toEqual([]);
    const mistakes: [object, string][] = [
      [{ status: 'done' }, 'status must be one of pending, succeeded, failed, dropped, canceled'],
      [{ type: 'customer.create' }, 'customer.create is not an event type'],
      [{ types: 'customer.created' }, 'types is not a filter: use event, type, status, limit'],
    ];
    for (const [filter, message] of mistakes) {
      await expect(sandbox.deliveries(filter)).rejects.toThrow(message);
    }
  });
});
