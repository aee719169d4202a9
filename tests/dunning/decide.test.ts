/** What is done with a case whose time has come, for everything Stripe may say of it. */
import { describe, expect, it } from '@jest/globals';
import { createCatalogue } from '../../src/catalogue/catalogue.ts';
import type { DunningEffect } from '../../src/credits/effects.ts';
import { decideStep } from '../../src/dunning/decide.ts';
import type { DunningStep } from '../../src/dunning/dunning.types.ts';
import { scheduleOf } from '../../src/dunning/schedule.ts';

const FAILED = Date.UTC(2026, 0, 1);
const day = (days: number) => new Date(FAILED + days * 86_400_000).toISOString();

function step(action: 'mail' | 'cancel', at: number): DunningStep {
  return {
    step: 2,
    day: at,
    action,
    urgency: action === 'mail' ? 'second' : null,
    due_at: day(at),
    state: 'waiting',
    done_at: null,
    note: null,
  };
}

interface Case {
  step: DunningStep | null;
  /** Days since the failure. */
  now: number;
  status?: string;
  verdict?: NonNullable<DunningEffect['invoice']>['verdict'];
  /** In days. */
  retry?: number;
  paused?: number | true;
  wait?: number;
}

function decide({ now, retry, paused, ...given }: Case) {
  const { action, reason, ...rest } = decideStep(
    { failed_at: day(0), step: given.step },
    {
      subscription: {
        status: given.status ?? 'past_due',
        collection_paused: paused !== undefined,
        collection_resumes_at: typeof paused === 'number' ? day(paused) : null,
        ended_at: null,
        ended_unpaid: false,
      },
      invoice: {
        id: 'in_1',
        verdict: given.verdict ?? 'failing',
        failed_at: day(0),
        paid_at: null,
        attempt_count: 1,
        next_payment_attempt: retry === undefined ? null : day(retry),
        amount: 1_000,
        currency: 'usd',
        number: null,
        url: null,
      },
    },
    { waitForRetriesDays: given.wait ?? 60 },
    new Date(day(now)),
  );
  const until = 'until' in rest ? ` ${(Date.parse(rest.until) - FAILED) / 3_600_000}h` : '';
  return `${action} ${reason}${until}`;
}

const mail = step('mail', 3);
const cancel = step('cancel', 10);

describe('a case whose time has come', () => {
  it.each<[string, Case, string]>([
    // The mail.
    ['mails on its day', { step: mail, now: 3 }, 'mail day 3'],
    ['mails however late it is', { step: mail, now: 9 }, 'mail day 3'],
    ['mails while a retry is days away', { step: mail, now: 3, retry: 5 }, 'mail day 3'],
    [
      'waits for a retry within a day',
      { step: mail, now: 3, retry: 3.5 },
      'postpone retry_soon 86h',
    ],
    ['waits for one a day away', { step: mail, now: 3, retry: 4 }, 'postpone retry_soon 98h'],
    [
      'waits while one may be under way',
      { step: mail, now: 3.05, retry: 3 },
      'postpone retry_soon 75.2h',
    ],
    ['believes no retry of long ago', { step: mail, now: 3.5, retry: 3 }, 'mail day 3'],
    ['does not wait for ever', { step: mail, now: 5, retry: 5.5 }, 'mail day 3'],
    [
      'mails when the subscription is unpaid',
      { step: mail, now: 3, status: 'unpaid' },
      'mail day 3',
    ],
    [
      'mails about an older invoice of an active one',
      { step: mail, now: 3, status: 'active' },
      'mail day 3',
    ],
    // The end.
    ['cancels what is past due', { step: cancel, now: 10 }, 'cancel day 10'],
    ['cancels what is unpaid', { step: cancel, now: 10, status: 'unpaid' }, 'cancel day 10'],
    [
      'keeps what is active',
      { step: cancel, now: 10, status: 'active' },
      'keep subscription_in_order',
    ],
    [
      'keeps what is on trial',
      { step: cancel, now: 10, status: 'trialing' },
      'keep subscription_in_order',
    ],
    [
      'keeps what it does not know',
      { step: cancel, now: 10, status: 'new_word' },
      'keep subscription_in_order',
    ],
    [
      'lets Stripe try first',
      { step: cancel, now: 10, retry: 15 },
      'postpone retry_scheduled 362h',
    ],
    ['lets it finish', { step: cancel, now: 15.05, retry: 15 }, 'postpone retry_scheduled 363.2h'],
    [
      'cancels when the last retry is over',
      { step: cancel, now: 15.1, retry: 15 },
      'cancel day 10',
    ],
    [
      'waits no longer than the policy says',
      { step: cancel, now: 12, retry: 15, wait: 2 },
      'cancel day 10',
    ],
    [
      'looks again when that time is over',
      { step: cancel, now: 10, retry: 15, wait: 2 },
      'postpone retry_scheduled 288h',
    ],
    [
      'waits not at all where it says so',
      { step: cancel, now: 10, retry: 15, wait: 0 },
      'cancel day 10',
    ],
    // What the merchant holds back.
    [
      'waits while collection is paused',
      { step: mail, now: 3, paused: true },
      'postpone collection_paused 96h',
    ],
    [
      'until it is resumed',
      { step: cancel, now: 10, paused: 20 },
      'postpone collection_paused 480h',
    ],
    [
      'looks daily when that should have been',
      { step: cancel, now: 21, paused: 20 },
      'postpone collection_paused 528h',
    ],
    [
      'waits while the subscription is paused',
      { step: cancel, now: 10, status: 'paused' },
      'postpone subscription_paused 264h',
    ],
    // Nothing left to do.
    ['watches without a step', { step: null, now: 12 }, 'postpone nothing_left 312h'],
    ['gives up in the end', { step: null, now: 90 }, 'keep given_up'],
    // Nothing left to collect.
    ['ends when paid', { step: cancel, now: 10, verdict: 'paid' }, 'settle paid'],
    [
      'ends when paid, also while paused',
      { step: cancel, now: 10, verdict: 'paid', paused: true },
      'settle paid',
    ],
    ['ends when voided', { step: mail, now: 3, verdict: 'voided' }, 'settle voided'],
    [
      'ends when written off',
      { step: mail, now: 3, verdict: 'uncollectible' },
      'settle uncollectible',
    ],
    [
      'ends when sent as a bill',
      { step: mail, now: 3, verdict: 'sent_as_bill' },
      'settle sent_as_bill',
    ],
    [
      'ends with the subscription',
      { step: cancel, now: 10, status: 'canceled' },
      'settle subscription_ended',
    ],
    [
      'ends with one that never began',
      { step: mail, now: 3, status: 'incomplete_expired' },
      'settle subscription_ended',
    ],
  ])('%s', (_claim, given, expected) => {
    expect(decide(given)).toBe(expected);
  });
});

describe('the policy', () => {
  const plan = { credits: 1, amount: 100 };
  const catalogue = (dunning: object, ofPlan?: object) =>
    createCatalogue({
      currency: 'usd',
      dunning,
      plans: { basic: ofPlan === undefined ? plan : { ...plan, dunning: ofPlan } },
    });

  it('mails on day 0, 3 and 7 and cancels on day 10 unless the catalogue says otherwise', () => {
    const { dunning } = createCatalogue({ currency: 'usd' });
    expect(scheduleOf(dunning)).toEqual([
      { day: 0, action: 'mail', urgency: 'first' },
      { day: 3, action: 'mail', urgency: 'second' },
      { day: 7, action: 'mail', urgency: 'final' },
      { day: 10, action: 'cancel', urgency: null },
    ]);
  });

  it('of a plan stands over that of the catalogue, field by field', () => {
    const { plans } = catalogue({ mail_days: [0, 1], cancel_day: 5 }, { cancel_day: null });
    expect(plans[0]?.dunning).toEqual({
      mailDays: [0, 1],
      cancelDay: null,
      waitForRetriesDays: 60,
    });
    expect(scheduleOf(plans[0]?.dunning ?? catalogue({}).dunning)).toEqual([
      { day: 0, action: 'mail', urgency: 'first' },
      { day: 1, action: 'mail', urgency: 'final' },
    ]);
  });

  it('never cancels somebody who was not warned before', () => {
    expect(() => catalogue({ cancel_day: 7 })).toThrow(/dunning\.cancel_day: must be after .* 7/);
    expect(() => catalogue({}, { mail_days: [0, 12] })).toThrow(
      /plans\.basic\.dunning\.cancel_day/,
    );
    expect(() => catalogue({ mail_days: [3, 3] })).toThrow(/mail_days: must rise/);
    expect(() => catalogue({ mail_days: [] })).toThrow(/dunning\.mail_days/);
  });
});
