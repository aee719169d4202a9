/** However Stripe's events come, and whatever Stripe does by itself meanwhile. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { testDatabase } from '../support/postgres.ts';
import { shuffledAndDoubled } from '../support/subscriptionWorld.ts';
import {
  type Customer,
  caseOf,
  type DunningWorld,
  fails,
  GOOD_CARD,
  openDunningWorld,
  standing,
} from './dunningWorld.ts';

/** A lease lost on a busy machine takes a minute to run out. */
const database = testDatabase();
let world: DunningWorld;
beforeAll(async () => {
  world = await openDunningWorld(database.current);
});
afterAll(() => world?.stop());

const FIRST = 'payment_failed first 0';
const SECOND = 'payment_failed second 3';
const FINAL = 'payment_failed final 7';
const CANCELED = 'subscription_canceled payment_failed';
const settings = (change: Parameters<DunningWorld['sandbox']['setSettings']>[0]) =>
  world.sandbox.setSettings(change);
const alone = { retry_days: [], after_last_retry: 'leave_past_due' } as const;

async function pay({ customer, invoice }: Customer & { invoice: string }) {
  await world.sandbox.setCard(customer, GOOD_CARD);
  await world.sandbox.payInvoice(invoice);
}

async function play(days: number[]): Promise<void> {
  for (const wait of days) {
    await world.pass({ days: wait });
    await world.run();
  }
}

describe('a failure and its payment, told', () => {
  it.each([1, 2, 3])('doubled and in disorder (%i), are one mail and a recovery', async (seed) => {
    const late = await fails(world, `shuffled-${seed}`);
    const failure = await world.events(late);
    await world.deliver(shuffledAndDoubled(failure, seed));
    expect(await standing(world, late)).toMatchObject({ state: 'open', mails: [FIRST] });
    await pay(late);
    const payment = await world.events(late);
    await world.deliver(shuffledAndDoubled([...failure, ...payment], seed));
    expect(await standing(world, late)).toMatchObject({
      state: 'recovered',
      mails: [FIRST],
      stripe: 'active',
      local: 'active',
    });
  });

  it('only after it was paid, begin nothing', async () => {
    const late = await fails(world, 'told-late');
    await pay(late);
    const failed = (await world.events(late)).filter(({ type }) =>
      ['invoice.payment_failed', 'customer.subscription.updated'].includes(type),
    );
    await world.deliver(failed);
    expect(await standing(world, late)).toMatchObject({ state: undefined, mails: [] });
  });

  it.each(['invoice.payment_failed', 'customer.subscription.updated'])(
    'by %s alone, begin the case all the same',
    async (type) => {
      const late = await fails(world, `only-${type.replace(/\W/g, '-')}`);
      await world.deliver((await world.events(late)).filter((event) => event.type === type));
      expect(await standing(world, late)).toMatchObject({ state: 'open', mails: [FIRST] });
    },
  );

  it('four days late, move what follows: nobody is warned twice on one day', async () => {
    const late = await fails(world, 'four-days-late');
    await world.pass({ days: 4 });
    await world.deliver(await world.events(late));
    await world.run();
    expect(await standing(world, late)).toMatchObject({ mails: ['payment_failed first 4'] });
    const { failed_at, steps } = await caseOf(world, late);
    const days = steps.map(
      ({ due_at }) => (Date.parse(due_at) - Date.parse(failed_at)) / 86_400_000,
    );
    expect(days.map(Math.round)).toEqual([0, 6, 7, 10]);
    await play([2]);
    const moved = (await caseOf(world, late)).steps[2];
    expect(Math.round((Date.parse(moved?.due_at ?? '') - Date.parse(failed_at)) / 86_400_000)).toBe(
      9,
    );
  });
});

describe('an invoice that is owed no more', () => {
  it.each([
    ['voided', 'voidInvoice'],
    ['uncollectible', 'markUncollectible'],
  ] as const)('%s ends its case, and keeps the subscription', async (resolution, act) => {
    for (const telling of ['told', 'lost']) {
      const late = await fails(world, `${resolution}-${telling}`);
      await world.deliver(await world.events(late));
      await world.stripe.invoices[act](late.invoice);
      const events = await world.events(late);
      if (telling === 'told') await world.deliver(events);
      await play([3, 7]);
      expect(await standing(world, late)).toMatchObject({
        state: 'closed',
        resolution,
        mails: [FIRST],
        stripe: 'past_due',
      });
    }
  });

  it('was a bill: nothing was collected, and nothing has failed', async () => {
    const { user, customer } = await world.subscriber('pays-bills');
    const bill = await world.stripe.subscriptions.create({
      customer,
      items: [{ price: 'price_brisk' }],
      collection_method: 'send_invoice',
      days_until_due: 1,
    });
    const billed = { user, customer, subscription: bill.id };
    await world.pass({ days: 2 });
    await world.deliver(await world.events(billed));
    expect(await standing(world, billed)).toMatchObject({ state: undefined, mails: [] });
  });
});

describe('a subscription that ends otherwise', () => {
  it('by the customer closes the case, and is no failed payment', async () => {
    const late = await fails(world, 'leaves');
    await world.deliver(await world.events(late));
    await world.stripe.subscriptions.cancel(late.subscription);
    await world.deliver(await world.events(late));
    expect(await standing(world, late)).toMatchObject({
      state: 'closed',
      resolution: 'subscription_ended',
      mails: [FIRST, 'subscription_canceled requested'],
    });
    await play([10]);
    expect((await standing(world, late)).mails).toHaveLength(2);
  });

  it('by Stripe after its last retry is told as a failed payment, once', async () => {
    await settings({ retry_days: [2], after_last_retry: 'cancel' });
    for (const telling of ['told', 'lost']) {
      const late = await fails(world, `stripe-cancels-${telling}`);
      await world.deliver(await world.events(late));
      await world.pass({ days: 2.5 });
      const events = await world.events(late);
      if (telling === 'told') await world.deliver(events);
      await play([1, 7]);
      expect(await standing(world, late)).toEqual({
        state: 'canceled',
        resolution: 'canceled_by_stripe',
        mails: [FIRST, CANCELED],
        stripe: 'canceled',
        local: 'canceled',
        plan: 'free',
      });
    }
    await settings(alone);
  });
});

describe('while Stripe itself retries', () => {
  it('a retry with the new card succeeds: the case ends, and no mail follows', async () => {
    await settings({ retry_days: [3, 5, 7] });
    const late = await fails(world, 'new-card');
    await world.deliver(await world.events(late));
    await world.sandbox.setCard(late.customer, GOOD_CARD);
    await world.deliver(await world.events(late));
    expect(await standing(world, late)).toMatchObject({ state: 'open', mails: [FIRST] });
    // Nothing of the retry on day 3 is told; the job reads it.
    await play([3.1]);
    expect(await standing(world, late)).toMatchObject({
      state: 'recovered',
      mails: [FIRST],
      stripe: 'active',
      local: 'active',
    });
    await settings(alone);
  });

  it('a mail waits for a retry that is near, and then tells of it', async () => {
    await settings({ retry_days: [4, 20] });
    const late = await fails(world, 'retry-near');
    await world.deliver(await world.events(late));
    await world.pass({ days: 3.2 });
    expect(await world.run()).toMatchObject({ mail: 0, postpone: 1 });
    expect(await caseOf(world, late)).toMatchObject({ postponed_because: 'retry_soon' });
    await play([1]);
    const [mail] = await database.current.query<{ data: Record<string, unknown> }>(
      `select data from notifications where user_id = 'retry-near' and data ->> 'urgency' = 'second'`,
    );
    const { next_payment_attempt } = await world.stripe.invoices.retrieve(late.invoice);
    expect(mail?.data).toMatchObject({
      attempt_count: 2,
      days_overdue: 4,
      next_attempt_at: new Date((next_payment_attempt ?? 0) * 1000).toISOString(),
    });
    await settings(alone);
    await pay(late);
  });

  it('day 10 waits for its last retry; what is then left past due is canceled', async () => {
    await settings({ retry_days: [3, 5, 7], after_last_retry: 'leave_past_due' });
    const late = await fails(world, 'smart-retries');
    await world.deliver(await world.events(late));
    // The final mail waits for the retry of day 8, and moves the end a little.
    await play([3.01, 4, 1.2, 2.8]);
    expect(await caseOf(world, late)).toMatchObject({
      state: 'open',
      postponed_because: 'retry_scheduled',
    });
    expect(await standing(world, late)).toMatchObject({
      stripe: 'past_due',
      mails: [FIRST, SECOND, 'payment_failed final 8'],
    });
    await play([4.2]);
    expect(await standing(world, late)).toMatchObject({
      state: 'canceled',
      resolution: 'canceled_by_purser',
      stripe: 'canceled',
      mails: [FIRST, SECOND, 'payment_failed final 8', CANCELED],
    });
    await settings(alone);
  });

  it('a plan that does not wait for retries is canceled on its own day', async () => {
    await settings({ retry_days: [20] });
    const late = await fails(world, 'brisk', 'brisk');
    await world.deliver(await world.events(late));
    await play([2, 2]);
    expect(await standing(world, late)).toMatchObject({
      state: 'canceled',
      mails: [FIRST, 'payment_failed final 2', CANCELED],
      stripe: 'canceled',
    });
    await settings(alone);
  });

  it('paused collection holds the steps back, and they go on afterwards', async () => {
    const late = await fails(world, 'collection-paused');
    await world.deliver(await world.events(late));
    await world.stripe.subscriptions.update(late.subscription, {
      pause_collection: { behavior: 'keep_as_draft' },
    });
    await play([3, 5, 5]);
    expect(await standing(world, late)).toMatchObject({ stripe: 'past_due', mails: [FIRST] });
    expect(await caseOf(world, late)).toMatchObject({ postponed_because: 'collection_paused' });
    await world.stripe.subscriptions.update(late.subscription, { pause_collection: '' });
    await play([1, 1, 1]);
    expect(await standing(world, late)).toMatchObject({
      mails: [FIRST, 'payment_failed second 14'],
      stripe: 'past_due',
    });
    await pay(late);
  });
});

it('an older invoice of a subscription that is in order is asked for, and cancels nothing', async () => {
  const late = await fails(world, 'older-invoice');
  await world.deliver(await world.events(late));
  await world.sandbox.setCard(late.customer, GOOD_CARD);
  await world.sandbox.renew(late.subscription);
  await world.deliver(await world.events(late));
  await play([3, 4, 3]);
  expect(await standing(world, late)).toMatchObject({
    state: 'closed',
    resolution: 'subscription_in_order',
    mails: [FIRST, SECOND, FINAL],
    stripe: 'active',
    local: 'active',
  });
});

it('a policy without a cancellation warns, watches, and sees the payment at last', async () => {
  const late = await fails(world, 'patient', 'patient');
  await world.deliver(await world.events(late));
  await play([3, 4, 7]);
  expect(await standing(world, late)).toMatchObject({
    state: 'open',
    mails: [FIRST, SECOND, FINAL],
  });
  expect(await caseOf(world, late)).toMatchObject({
    next_step: null,
    postponed_because: 'nothing_left',
  });
  await pay(late);
  await play([1.1]);
  expect(await standing(world, late)).toMatchObject({ state: 'recovered', stripe: 'active' });
});
