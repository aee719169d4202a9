/** Crashes, outages and rivals: no step is lost, and none is done twice. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { PurserError } from '../../src/core/errors.ts';
import type { Database } from '../../src/core/ports.ts';
import { runDunning } from '../../src/dunning/runDunning.ts';
import { testDatabase } from '../support/postgres.ts';
import {
  caseOf,
  type DunningWorld,
  fails,
  GOOD_CARD,
  openDunningWorld,
  standing,
} from './dunningWorld.ts';
import { worker } from './worker.ts';

const FIRST = 'payment_failed first 0';
const SECOND = 'payment_failed second 3';
const FINAL = 'payment_failed final 7';
const CANCELED = 'subscription_canceled payment_failed';
const LEASE_HOURS = 0.1;

/** A lease lost on a busy machine takes a minute to run out. */
const database = testDatabase();
/** The server's own database, and what happens around its calls. */
let db: Database;
let around = (_name: string, call: () => Promise<unknown>): Promise<unknown> => call();
let world: DunningWorld;
beforeAll(async () => {
  world = await openDunningWorld(database.current, {
    wrapDatabase: (opened) => {
      db = opened.db;
      const rpc: Database['rpc'] = async (name, args, options) =>
        (await around(name, () => opened.db.rpc(name, args, options))) as never;
      return { ...opened, db: { ...opened.db, rpc } };
    },
  });
});
// What a test leaves open is not the next one's.
afterEach(async () => {
  around = (_name, call) => call();
  await world.sandbox.setApiFaults();
  const { body } = await world.admin('GET', '?state=active');
  for (const { case_id } of body.data) {
    await world.admin('POST', `/${case_id}/close`, { reason: 'the test is over' });
  }
});
afterAll(() => world?.stop());

const down = () => new PurserError('dependency_down', { detail: 'cut on purpose' });

async function atDayTen(user: string) {
  const late = await fails(world, user);
  await world.deliver(await world.events(late));
  for (const days of [3, 4]) {
    await world.pass({ days });
    await world.run();
  }
  await world.pass({ days: 3 });
  return late;
}

const canceled = {
  state: 'canceled',
  resolution: 'canceled_by_purser',
  stripe: 'canceled',
  local: 'canceled',
  plan: 'free',
  mails: [FIRST, SECOND, FINAL, CANCELED],
};

/** Requests to end subscriptions that reached Stripe. */
async function deletions(subscription: string): Promise<number> {
  const { data } = await world.stripe.events.list({ type: 'customer.subscription.deleted' });
  return data.filter((event) => (event.data.object as { id: string }).id === subscription).length;
}

describe('a crash', () => {
  it('between the end at Stripe and the writing here is repaired by the next run', async () => {
    const late = await atDayTen('crash-after-cancel');
    let began = false;
    around = async (name, call) => {
      if (name === 'begin_dunning_cancel') began = true;
      // Nothing of this process reaches the database any more.
      if (began && name !== 'begin_dunning_cancel' && name !== 'finish_job') throw down();
      return call();
    };
    await expect(world.run()).rejects.toThrow(/failed/);
    expect(await standing(world, late)).toMatchObject({
      state: 'canceling',
      stripe: 'canceled',
      local: 'past_due',
      mails: [FIRST, SECOND, FINAL],
    });
    around = (_name, call) => call();
    // The lease of the dead runs out.
    expect(await world.run()).toMatchObject({ settle: 0, cancel: 0 });
    await world.pass({ hours: LEASE_HOURS });
    expect(await world.run()).toMatchObject({ settle: 1, cancel: 0 });
    expect(await standing(world, late)).toEqual(canceled);
    expect(await deletions(late.subscription)).toBe(1);
  });

  it('there is repaired by the webhook of the cancellation as well', async () => {
    const late = await atDayTen('crash-then-webhook');
    around = async (name, call) => {
      if (name === 'apply_webhook_effects' || name === 'fail_dunning_step') throw down();
      return call();
    };
    await expect(world.run()).rejects.toThrow(/failed/);
    around = (_name, call) => call();
    await world.deliver(await world.events(late));
    expect(await standing(world, late)).toEqual(canceled);
    await world.pass({ hours: LEASE_HOURS });
    await world.run();
    expect(await standing(world, late)).toEqual(canceled);
  });

  it('before Stripe was told leaves the step to the next run, unless it was paid', async () => {
    const [late, lucky] = [await fails(world, 'crash-before'), await fails(world, 'crash-paid')];
    for (const each of [late, lucky]) await world.deliver(await world.events(each));
    for (const days of [3, 4]) {
      await world.pass({ days });
      await world.run();
    }
    await world.pass({ days: 3 });
    around = async (name, call) => {
      const answer = await call();
      if (name === 'begin_dunning_cancel') throw down();
      return answer;
    };
    expect(await world.run()).toMatchObject({ failed: 2, cancel: 0 });
    around = (_name, call) => call();
    for (const each of [late, lucky]) {
      expect(await standing(world, each)).toMatchObject({ state: 'canceling', stripe: 'past_due' });
    }
    await world.sandbox.setCard(lucky.customer, GOOD_CARD);
    await world.sandbox.payInvoice(lucky.invoice);
    await world.pass({ hours: LEASE_HOURS });
    expect(await world.run()).toMatchObject({ settle: 1, cancel: 1 });
    expect(await standing(world, late)).toEqual(canceled);
    expect(await standing(world, lucky)).toMatchObject({ state: 'recovered', stripe: 'active' });
  });

  it('after a mail was written and not heard of sends no second one', async () => {
    const late = await fails(world, 'crash-mail');
    await world.deliver(await world.events(late));
    await world.pass({ days: 3 });
    around = async (name, call) => {
      const answer = await call();
      if (name === 'apply_webhook_effects') throw down();
      return answer;
    };
    expect(await world.run()).toMatchObject({ failed: 1 });
    around = (_name, call) => call();
    await world.pass({ hours: LEASE_HOURS });
    expect(await world.run()).toMatchObject({ mail: 0 });
    expect(await standing(world, late)).toMatchObject({ mails: [FIRST, SECOND] });
    expect(await caseOf(world, late)).toMatchObject({ next_step: 3 });
  });
});

describe('Stripe', () => {
  it('down for two days delays a step, which says so, and loses none', async () => {
    const late = await fails(world, 'stripe-down');
    await world.deliver(await world.events(late));
    await world.pass({ days: 3 });
    await world.sandbox.setApiFaults({ status: 500, path: '/v1/invoices' });
    expect(await world.run()).toMatchObject({ failed: 1, mail: 0 });
    // It is not asked again at once.
    expect(await world.run()).toMatchObject({ failed: 0 });
    expect(await caseOf(world, late)).toMatchObject({ state: 'open', failed_attempts: 1 });
    expect((await caseOf(world, late)).error).toContain('Stripe');
    await world.pass({ days: 2 });
    await world.run();
    const { body: summary } = await world.admin('GET', '/summary');
    expect(summary).toMatchObject({ overdue_steps: 1, failing_steps: 1 });
    await world.sandbox.setApiFaults();
    await world.pass({ hours: 2 });
    await world.run();
    expect(await standing(world, late)).toMatchObject({
      state: 'open',
      mails: [FIRST, 'payment_failed second 5'],
    });
    expect(await caseOf(world, late)).toMatchObject({ failed_attempts: 0, error: null });
  });

  it.each([
    ['refusing the cancellation for a while', { status: 500, times: 3 }],
    ['carrying it out and answering an error', { status: 500, carried_out: true, times: 1 }],
    ['carrying it out and losing the answer', { answer: 'lost', carried_out: true, times: 1 }],
  ] as const)('%s ends it once', async (claim, fault) => {
    const late = await atDayTen(claim.replace(/\W+/g, '-'));
    await world.sandbox.setApiFaults({ method: 'DELETE', path: '/v1/subscriptions', ...fault });
    await world.run();
    await world.sandbox.setApiFaults();
    await world.pass({ hours: LEASE_HOURS });
    await world.run();
    expect(await standing(world, late)).toEqual(canceled);
    expect(await deletions(late.subscription)).toBe(1);
  });
});

describe('workers', () => {
  it('several at once, without any other lease, do each step once', async () => {
    const late = [];
    for (const nth of [1, 2, 3, 4]) late.push(await fails(world, `rivals-${nth}`));
    for (const each of late) await world.deliver(await world.events(each));
    const sum = { mail: 0, cancel: 0 };
    for (const days of [3, 4, 3]) {
      await world.pass({ days });
      const counts = await Promise.all(
        [1, 2, 3].map(() => runDunning(worker(world, db), () => false)),
      );
      for (const count of counts) {
        sum.mail += count.mail;
        sum.cancel += count.cancel;
        expect(count.failed).toBe(0);
      }
    }
    expect(sum).toEqual({ mail: 8, cancel: 4 });
    for (const each of late) {
      expect(await standing(world, each)).toEqual(canceled);
      expect(await deletions(each.subscription)).toBe(1);
    }
  });

  it('one that slept past its lease does nothing when it wakes', async () => {
    const late = await fails(world, 'sleeper');
    await world.deliver(await world.events(late));
    await world.pass({ days: 3 });
    const sleeper = worker(world, db);
    const { apply } = sleeper;
    const counts = await runDunning(
      {
        ...sleeper,
        async apply(effects) {
          await world.pass({ hours: LEASE_HOURS });
          expect(await world.run()).toMatchObject({ mail: 1 });
          return apply(effects);
        },
      },
      () => false,
    );
    expect(counts).toMatchObject({ mail: 0, stale: 1 });
    expect(await standing(world, late)).toMatchObject({ mails: [FIRST, SECOND] });
    expect(await caseOf(world, late)).toMatchObject({ next_step: 3 });
  });

  it('one whose case is paused meanwhile cancels nothing', async () => {
    const late = await atDayTen('paused-meanwhile');
    const slow = worker(world, db);
    const counts = await runDunning(
      {
        ...slow,
        async settleInvoice(invoice, at) {
          const effects = await slow.settleInvoice(invoice, at);
          const { case_id } = await caseOf(world, late);
          await world.admin('POST', `/${case_id}/pause`, { reason: 'they called' });
          return effects;
        },
      },
      () => false,
    );
    expect(counts).toMatchObject({ cancel: 0, stale: 1 });
    expect(await standing(world, late)).toMatchObject({ state: 'paused', stripe: 'past_due' });
  });
});

it('a payment in the moment of the cancellation is a finding for a person', async () => {
  const late = await atDayTen('last-second');
  const hurried = worker(world, db);
  const { settleInvoice } = hurried;
  let readings = 0;
  await runDunning(
    {
      ...hurried,
      async settleInvoice(invoice, at) {
        readings += 1;
        const effects = await settleInvoice(invoice, at);
        if (readings === 1) {
          await world.sandbox.setCard(late.customer, GOOD_CARD);
          await world.sandbox.payInvoice(late.invoice);
        }
        return effects;
      },
    },
    () => false,
  );
  expect(await standing(world, late)).toEqual(canceled);
  const findings = await database.current.query(
    `select detail ->> 'invoice_id' as invoice from reconciliation_findings where code = 'dunning_canceled_paid'`,
  );
  expect(findings).toEqual([{ invoice: late.invoice }]);
});
