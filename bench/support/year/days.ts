import type { Person, World } from './people.ts';
import { changePlan, subscribe } from './plans.ts';
import { buyPack } from './purchases.ts';

/** What one person does on one day. */
export async function live(world: World, person: Person, day: number): Promise<void> {
  const { dice } = person;
  if (person.knownFrom === day) await world.signUp(person);
  for (const work of person.agenda.get(day) ?? []) await work();
  person.agenda.delete(day);
  if (day < person.joins) return;
  if (person.buysPacks && (day === person.joins || dice.oneIn(40))) {
    await buyPack(world, person, day);
  }
  if (person.hasPlan) {
    if (person.subscription === null) {
      if (day === person.joins || dice.oneIn(30)) await subscribe(world, person);
    } else if (dice.oneIn(45)) {
      await changePlan(world, person, person.subscription, day);
    }
  }
  if (person.knownFrom !== null && day > person.knownFrom && dice.oneIn(10)) {
    world.use(person, day, dice.between(1, 40));
  }
}
