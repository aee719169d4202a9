/** Plans are begun, changed, paused, not paid and ended. */
import { attempt, metadataOf, type Person, plan, type World } from './people.ts';
import { regret } from './purchases.ts';

const PAYING_CARD = '4242424242424242';
const REFUSING_CARD = '4000000000000341';
const PLANS = [
  [5, 'price_individual'],
  [3, 'price_team'],
  [2, 'price_custom'],
] as const;

export async function subscribe(world: World, person: Person): Promise<void> {
  const { dice, customer } = person;
  const trialDays = dice.pick([
    [7, 0],
    [2, 7],
    [1, 14],
  ]);
  const price = dice.pick(PLANS);
  const what = `plan${trialDays > 0 ? ' with a trial' : ''}`;
  const bought = await attempt(world, what, () =>
    world.sandbox.buy({
      price,
      quantity: dice.pick([
        [8, 1],
        [1, 3],
      ]),
      customer,
      ...(trialDays > 0 ? { trial_days: trialDays } : {}),
      ...metadataOf(person),
    }),
  );
  person.subscription = bought?.session.subscription ?? null;
}

type Move = (world: World, person: Person, id: string, day: number) => Promise<unknown>;

const MOVES: readonly (readonly [number, string, Move])[] = [
  [5, 'other plan', otherPlan],
  [3, 'other seats', otherSeats],
  [4, 'card fails', failCard],
  [2, 'payments fail', failPayments],
  [3, 'money back', moneyBack],
  [2, 'collection paused', pauseCollection],
  [2, 'paused', pauseAndResume],
  [2, 'leaves at the end', leaveAtEnd],
  [1, 'quits', quit],
];

/** One thing that happens in the life of a subscription. */
export async function changePlan(
  world: World,
  person: Person,
  id: string,
  day: number,
): Promise<void> {
  const { status } = await world.stripe.subscriptions.retrieve(id);
  if (status === 'canceled' || status === 'incomplete_expired') {
    person.subscription = null;
    return;
  }
  const [what, move] = person.dice.pick(
    MOVES.map(([weight, name, work]) => [weight, [name, work] as const] as const),
  );
  await attempt(world, what, () => move(world, person, id, day));
}

function prorationOf({ dice }: Person) {
  return dice.pick([
    [4, 'always_invoice'],
    [4, 'create_prorations'],
    [1, 'none'],
  ] as const);
}

async function otherPlan({ stripe }: World, person: Person, id: string): Promise<void> {
  const { items } = await stripe.subscriptions.retrieve(id);
  const [item] = items.data;
  const others = PLANS.filter(([, price]) => price !== item?.price.id);
  await stripe.subscriptions.update(id, {
    items: [{ id: String(item?.id), price: person.dice.pick(others) }],
    proration_behavior: prorationOf(person),
  });
}

async function otherSeats({ stripe }: World, person: Person, id: string): Promise<void> {
  const { items } = await stripe.subscriptions.retrieve(id);
  await stripe.subscriptions.update(id, {
    items: [{ id: String(items.data[0]?.id), quantity: person.dice.between(1, 4) }],
    proration_behavior: prorationOf(person),
  });
}

/** Renewals fail until he has another card, pays by bank transfer, or Stripe gives up. */
async function failCard(world: World, person: Person, _id: string, day: number): Promise<void> {
  const { sandbox, stripe } = world;
  const { dice, customer } = person;
  await sandbox.setCard(customer, REFUSING_CARD);
  const way = dice.pick([
    [5, 'new card'],
    [2, 'paid out of band'],
    [2, 'paid in parts'],
    [3, 'nothing'],
  ] as const);
  plan(person, day + dice.between(20, 50), async () => {
    if (way !== 'nothing' && way !== 'new card') {
      const open = await stripe.invoices.list({ customer, status: 'open', limit: 10 });
      for (const { id, amount_remaining: rest } of open.data) {
        await attempt(world, way, async () => {
          if (way === 'paid out of band') return sandbox.payInvoice(id, { out_of_band: true });
          await sandbox.setCard(customer, PAYING_CARD);
          await sandbox.payInvoice(id, { amount: Math.max(50, Math.floor(rest / 3)) });
          return sandbox.payInvoice(id);
        });
      }
    }
    if (way !== 'nothing') await attempt(world, way, () => sandbox.setCard(customer, PAYING_CARD));
  });
  plan(person, day + 75, () =>
    attempt(world, 'new card', () => sandbox.setCard(customer, PAYING_CARD)),
  );
}

async function failPayments({ sandbox }: World, { dice, customer }: Person): Promise<void> {
  await sandbox.failNextPayments(customer, { times: dice.between(1, 3) });
}

/** Of the newest invoice that somebody paid. */
async function moneyBack(world: World, person: Person, _id: string, day: number): Promise<void> {
  const { data } = await world.stripe.invoices.list({
    customer: person.customer,
    status: 'paid',
    limit: 5,
  });
  const paid = data.find(({ amount_paid: amount }) => amount > 0);
  if (paid) {
    for (let tries = 0; tries < 4; tries += 1) regret(world, person, day, paid.id);
  }
}

async function pauseCollection(
  world: World,
  person: Person,
  id: string,
  day: number,
): Promise<void> {
  const behavior = person.dice.pick([
    [1, 'keep_as_draft'],
    [1, 'mark_uncollectible'],
    [1, 'void'],
  ] as const);
  await world.stripe.subscriptions.update(id, { pause_collection: { behavior } });
  plan(person, day + person.dice.between(20, 70), () =>
    attempt(world, 'collection goes on', () =>
      world.stripe.subscriptions.update(id, { pause_collection: '' }),
    ),
  );
}

async function pauseAndResume(
  world: World,
  person: Person,
  id: string,
  day: number,
): Promise<void> {
  await world.stripe.subscriptions.pause(id);
  plan(person, day + person.dice.between(10, 60), () =>
    attempt(world, 'resumed', () => world.stripe.subscriptions.resume(id)),
  );
}

async function leaveAtEnd(world: World, person: Person, id: string, day: number): Promise<void> {
  await world.stripe.subscriptions.update(id, { cancel_at_period_end: true });
  if (!person.dice.oneIn(3)) return;
  plan(person, day + 3, () =>
    attempt(world, 'stays after all', () =>
      world.stripe.subscriptions.update(id, { cancel_at_period_end: false }),
    ),
  );
}

async function quit({ stripe }: World, person: Person, id: string): Promise<void> {
  const prorate = person.dice.oneIn(2);
  await stripe.subscriptions.cancel(id, { prorate, invoice_now: prorate });
  person.subscription = null;
}
