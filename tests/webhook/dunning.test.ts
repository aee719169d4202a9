/** A dunning case through each adapter: opened by an event, played by the job, changed by hand. */
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import {
  caseOf,
  type DunningWorld,
  fails,
  openDunningWorld,
  standing,
} from '../dunning/dunningWorld.ts';
import { testDatabase, userId } from '../support/postgres.ts';

const database = testDatabase();
let world: DunningWorld;
beforeAll(async () => {
  world = await openDunningWorld(database.current);
});
afterAll(() => world?.stop());

it('a case is opened, paused, resumed, and ends with the subscription canceled', async () => {
  const late = await fails(world, userId('debtor'));
  await world.deliver(await world.events(late));
  const { case_id, history } = await caseOf(world, late);
  expect(history.map(({ action }) => action)).toEqual(['dunning_opened', 'dunning_mail']);
  const act = (action: string) => world.admin('POST', `/${case_id}/${action}`, { reason: 'asked' });
  expect((await act('pause')).body).toMatchObject({ state: 'paused' });
  expect((await act('resume')).body).toMatchObject({ state: 'open', next_step: 2 });
  expect((await act('skip')).body).toMatchObject({ next_step: 3 });
  await world.pass({ days: 7 });
  expect((await world.admin('GET', '/preview')).body.cases).toMatchObject([
    { case_id, decision: { action: 'mail' } },
  ]);
  await world.run();
  await world.pass({ days: 3 });
  expect(await world.run()).toMatchObject({ cancel: 1 });
  expect(await standing(world, late)).toEqual({
    state: 'canceled',
    resolution: 'canceled_by_purser',
    stripe: 'canceled',
    local: 'canceled',
    plan: 'free',
    mails: [
      'payment_failed first 0',
      'payment_failed final 7',
      'subscription_canceled payment_failed',
    ],
  });
  expect((await world.admin('GET', '/summary')).body).toMatchObject({
    canceled: 1,
    completion_rate: 1,
    recovery_rate: 0,
  });
});
