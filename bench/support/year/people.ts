/** The customers of the virtual year: who they are, and how they act. */
import type Stripe from 'stripe';
import type { Sandbox } from '../../../src/sandbox/index.ts';
import { createDice, type Dice } from './dice.ts';

/** New customers come in the first weeks, so that every day has renewals. */
const JOINING_DAYS = 56;

export interface Person {
  readonly nth: number;
  readonly user: string;
  readonly customer: string;
  /** The day his row in `users` is made; null for somebody who never comes. */
  readonly knownFrom: number | null;
  readonly joins: number;
  readonly buysPacks: boolean;
  readonly hasPlan: boolean;
  /** Whether his purchases carry his user id, or only the customer says whose they are. */
  readonly tagged: boolean;
  readonly dice: Dice;
  /** What was decided to happen later, by day. */
  readonly agenda: Map<number, (() => Promise<unknown>)[]>;
  subscription: string | null;
}

export interface World {
  readonly sandbox: Sandbox;
  readonly stripe: Stripe;
  /** Makes his user row, through the API of the product. */
  signUp(person: Person): Promise<void>;
  /** Uses credits, through the API of the product, some time of the day. */
  use(person: Person, day: number, amount: number): void;
  /** Counts what was done, and what Stripe refused. */
  count(what: string): void;
}

export async function createPerson(
  { stripe }: World,
  { seed, nth }: { seed: string; nth: number },
): Promise<Person> {
  const dice = createDice(`${seed}:${nth}`);
  const habit = dice.pick([
    [4, 'packs'],
    [4, 'plan'],
    [2, 'both'],
  ]);
  const { id: customer } = await stripe.customers.create(
    { email: `buyer-${nth}@example.com`, name: `Buyer ${nth}` },
    { idempotencyKey: `year-${seed}-${nth}` },
  );
  const joins = dice.between(0, JOINING_DAYS);
  return {
    nth,
    user: `year-${nth}`,
    customer,
    knownFrom: dice.pick([
      [90, joins],
      [7, joins + dice.between(5, 120)],
      [3, null],
    ]),
    joins,
    buysPacks: habit !== 'plan',
    hasPlan: habit !== 'packs',
    tagged: !dice.oneIn(3),
    dice,
    agenda: new Map(),
    subscription: null,
  };
}

/** Decides on something for a later day. */
export function plan(person: Person, day: number, work: () => Promise<unknown>): void {
  person.agenda.set(day, [...(person.agenda.get(day) ?? []), work]);
}

/**
 * Something that Stripe may rightly refuse, such as a refund of what was refunded already: counted,
 * and the story goes on. Anything else ends the year.
 */
export async function attempt<T>(
  world: World,
  what: string,
  work: () => Promise<T>,
): Promise<T | null> {
  try {
    const result = await work();
    world.count(what);
    return result;
  } catch (error) {
    const { type, message } = error as Partial<Stripe.errors.StripeError>;
    const refused =
      type === 'StripeInvalidRequestError' ||
      type === 'StripeCardError' ||
      // The handle of the sandbox tells in words only what its API answered.
      (message?.startsWith('Stripe sandbox: ') && !message.includes('HTTP 5'));
    if (!refused) throw error;
    world.count(`${what}, refused`);
    return null;
  }
}

/** What purchases say about whose they are. */
export const metadataOf = ({ tagged, user }: Person) =>
  tagged ? { metadata: { userId: user } } : {};
