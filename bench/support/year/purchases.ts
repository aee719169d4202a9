/** Packs are bought, and money goes back: refunds, disputes, inquiries. */
import { attempt, metadataOf, type Person, plan, type World } from './people.ts';

const PACKS = [
  [6, 'price_pack_50'],
  [3, 'price_pack_200'],
  [1, 'price_pack_500'],
] as const;

export async function buyPack(world: World, person: Person, day: number): Promise<void> {
  const { dice, customer } = person;
  const outcome = dice.pick([
    [84, 'succeeded'],
    [5, 'declined'],
    [7, 'settles_later'],
    [4, 'fails_later'],
  ] as const);
  const bought = await attempt(world, `pack, ${outcome}`, () =>
    world.sandbox.buy({
      price: dice.pick(PACKS),
      quantity: dice.pick([
        [8, 1],
        [2, 3],
      ]),
      customer,
      invoice: dice.oneIn(2),
      outcome,
      ...metadataOf(person),
    }),
  );
  if (bought?.outcome !== 'complete' || outcome === 'fails_later') return;
  regret(world, person, day, bought.session.id);
}

/** What may come back of something that was paid: refunds in parts, disputes, both. */
export function regret(world: World, person: Person, day: number, paid: string): void {
  const { dice } = person;
  if (dice.oneIn(7)) {
    const parts = dice.pick([
      [4, 0],
      [3, 1],
      [2, 2],
    ]);
    const course = dice.pick([
      [6, 'succeeded'],
      [1, 'pending'],
      [2, 'fails_later'],
      [1, 'requires_action'],
    ] as const);
    const first = day + dice.between(1, 25);
    for (let part = 0; part < Math.max(1, parts); part += 1) {
      const amount = parts === 0 ? {} : { amount: dice.between(51, 333) };
      plan(person, first + part * 3, async () => {
        const what = `refund, ${parts === 0 ? 'full' : 'part'}, ${course}`;
        const refund = await attempt(world, what, () =>
          world.sandbox.refund(paid, { ...amount, course }),
        );
        if (refund === null || course !== 'requires_action') return;
        const end = dice.pick([
          [1, 'succeeded'],
          [1, 'canceled'],
        ] as const);
        plan(person, first + part * 3 + 9, () =>
          attempt(world, `refund ended, ${end}`, () => world.sandbox.endRefund(refund.id, end)),
        );
      });
    }
  }
  if (dice.oneIn(14)) {
    const opens = day + dice.between(2, 40);
    plan(person, opens, () => dispute(world, person, opens, paid));
  }
}

async function dispute(world: World, person: Person, day: number, paid: string): Promise<void> {
  const { dice } = person;
  const kind = dice.pick([
    [7, 'dispute'],
    [2, 'inquiry'],
    [1, 'prevented'],
  ] as const);
  const opened = await attempt(world, kind, () => world.sandbox.dispute(paid, { kind }));
  if (opened === null || kind === 'prevented') return;
  const decide = (status: 'won' | 'lost' | 'warning_closed' | 'needs_response') => () =>
    attempt(world, `${kind}, ${status}`, () => world.sandbox.decideDispute(opened.id, status));
  const verdict = dice.pick([
    [1, 'won'],
    [1, 'lost'],
  ] as const);
  // Who answers late has lost already, which happens as well.
  const ends = day + dice.between(2, 9);
  if (kind === 'dispute') {
    if (!dice.oneIn(5)) plan(person, ends, decide(verdict));
    return;
  }
  if (dice.oneIn(2)) {
    plan(person, ends, decide('warning_closed'));
    return;
  }
  plan(person, ends, decide('needs_response'));
  plan(person, ends + 4, decide(verdict));
}
