/** A case played on the virtual clock, with a payment at each point at which it may come. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { testDatabase } from '../support/postgres.ts';
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

async function pays({ customer, subscription }: Customer): Promise<void> {
  await world.sandbox.setCard(customer, GOOD_CARD);
  const { latest_invoice: invoice } = await world.stripe.subscriptions.retrieve(subscription);
  await world.sandbox.payInvoice(String(invoice));
}

const failing = { state: 'open', resolution: null, stripe: 'past_due', local: 'past_due' };
const recovered = { state: 'recovered', resolution: 'paid', stripe: 'active', local: 'active' };

it('mails on day 0, 3 and 7 and cancels on day 10, in Stripe and here, once', async () => {
  const late = await fails(world, 'never-pays');
  await world.deliver(await world.events(late));
  expect(await standing(world, late)).toMatchObject({ ...failing, mails: [FIRST], plan: 'small' });
  expect(await world.run()).toMatchObject({ mail: 0 });

  await world.pass({ days: 3 });
  expect(await world.run()).toMatchObject({ mail: 1 });
  expect(await world.run()).toMatchObject({ mail: 0 });
  expect(await standing(world, late)).toMatchObject({ ...failing, mails: [FIRST, SECOND] });
  await world.pass({ days: 4 });
  await world.run();
  await world.pass({ days: 2.9 });
  await world.run();
  expect(await standing(world, late)).toMatchObject({ ...failing, mails: [FIRST, SECOND, FINAL] });

  await world.pass({ hours: 2.4 });
  expect(await world.run()).toMatchObject({ cancel: 1 });
  const over = {
    state: 'canceled',
    resolution: 'canceled_by_purser',
    stripe: 'canceled',
    local: 'canceled',
    plan: 'free',
    mails: [FIRST, SECOND, FINAL, CANCELED],
  };
  expect(await standing(world, late)).toEqual(over);
  // What Stripe tells about it changes nothing more.
  await world.deliver(await world.events(late));
  expect(await world.run()).toMatchObject({ cancel: 0, mail: 0 });
  expect(await standing(world, late)).toEqual(over);

  const { history, mails, steps } = await caseOf(world, late);
  expect(history.map(({ actor, action }) => [actor.replace(/:evt_.*/, ''), action])).toEqual([
    ['stripe', 'dunning_opened'],
    ['stripe', 'dunning_mail'],
    ['job:dunning', 'dunning_mail'],
    ['job:dunning', 'dunning_mail'],
    ['job:dunning', 'dunning_canceling'],
    ['job:dunning', 'dunning_ended'],
  ]);
  // The server's own job keeps them when it comes by, since no transport is set.
  expect(mails.map(({ status }) => status)).toEqual(
    mails.map(() => expect.stringMatching(/^(queued|leased|kept)$/)),
  );
  expect(mails).toHaveLength(4);
  expect(steps.map(({ state }) => state)).toEqual(['done', 'done', 'done', 'done']);
});

it('tells in each mail what was tried, what is owed, and how long', async () => {
  const late = await fails(world, 'reads-mail');
  await world.deliver(await world.events(late));
  await world.pass({ days: 3 });
  await world.run();
  const invoice = await world.stripe.invoices.retrieve(late.invoice);
  const mails = await database.current.query(
    `select data from notifications where user_id = 'reads-mail' and kind = 'payment_failed' order by id`,
  );
  const common = {
    amount: 1_000,
    currency: 'usd',
    attempt_count: 1,
    invoice_number: invoice.number,
    invoice_url: invoice.hosted_invoice_url,
    next_attempt_at: null,
  };
  expect(mails.map(({ data }) => data)).toEqual([
    { ...common, urgency: 'first', days_overdue: 0 },
    { ...common, urgency: 'second', days_overdue: 3 },
  ]);
});

describe.each([
  { when: 'before the first event came', days: [], mails: [] },
  { when: 'on day 1', days: [1], mails: [FIRST] },
  { when: 'on day 3, before the job', days: [3], mails: [FIRST] },
  { when: 'between the second and the final mail', days: [3, 2], mails: [FIRST, SECOND] },
  { when: 'on day 7, before the job', days: [3, 4], mails: [FIRST, SECOND] },
  { when: 'on day 9', days: [3, 4, 2], mails: [FIRST, SECOND, FINAL] },
  { when: 'on day 10, before the job', days: [3, 4, 3], mails: [FIRST, SECOND, FINAL] },
])('a payment $when', ({ when, days, mails }) => {
  it.each(['told', 'lost'] as const)('ends the case, its event %s', async (telling) => {
    const late = await fails(world, `${when} ${telling}`.replace(/\W+/g, '-'));
    if (days.length > 0) await world.deliver(await world.events(late));
    for (const [index, wait] of days.entries()) {
      if (index > 0) await world.run();
      await world.pass({ days: wait });
    }
    await pays(late);
    const paid = await world.events(late);
    if (telling === 'told') await world.deliver(paid);
    await world.run();
    // A case whose payment nobody told of ends when its next step would come.
    await world.pass({ days: 10 });
    await world.run();
    if (days.length === 0) {
      const quiet = { state: undefined, mails: [], stripe: 'active', local: 'active' };
      expect(await standing(world, late)).toMatchObject(quiet);
    } else {
      expect(await standing(world, late)).toMatchObject({ ...recovered, mails, plan: 'small' });
    }
    // Credits follow the payment, also where the job was the first to hear of it.
    if (telling === 'told' || days.length > 0) {
      const [{ balance } = { balance: 0 }] = await database.current.query<{ balance: number }>(
        'select credits_balance::int as balance from users where id = $1',
        [late.user],
      );
      expect(balance).toBe(60);
    }
  });
});

it('a payment after the cancellation is noted, and brings nothing back', async () => {
  const late = await fails(world, 'pays-late');
  await world.deliver(await world.events(late));
  for (const days of [3, 4, 3]) {
    await world.pass({ days });
    await world.run();
  }
  await world.deliver(await world.events(late));
  await world.sandbox.setCard(late.customer, GOOD_CARD);
  await world.sandbox.payInvoice(late.invoice);
  await world.deliver(await world.events(late));
  expect(await standing(world, late)).toMatchObject({
    state: 'canceled',
    stripe: 'canceled',
    local: 'canceled',
    mails: [FIRST, SECOND, FINAL, CANCELED],
  });
  expect((await caseOf(world, late)).paid_at).not.toBeNull();
});
