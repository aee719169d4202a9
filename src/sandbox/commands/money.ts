import type { DisputeOptions, PayOptions, RefundOptions } from '../handle.types.ts';
import { command, given, numberOption, textOption, UsageError, word } from './command.ts';

const text = { type: 'string' } as const;
const on = { type: 'boolean' } as const;

function choice<const C extends string>(
  name: string,
  value: string | undefined,
  choices: readonly C[],
) {
  const found = choices.find((one) => one === value);
  if (value === undefined || found !== undefined) return found;
  throw new UsageError(`${name} must be one of ${choices.join(', ')}, not ${value}.`);
}

const PAID =
  '<paid> is a charge, payment intent, checkout session, invoice or subscription, or the word last.';
const OUTCOMES: readonly NonNullable<PayOptions['outcome']>[] = [
  'succeeded',
  'declined',
  'settles_later',
  'fails_later',
];
const DECISIONS = [
  'won',
  'lost',
  'warning_closed',
  'needs_response',
  'appeal_needs_response',
] as const;

export const moneyCommands = {
  buy: command({
    usage: '<price> [options]',
    about: 'buys something: a price by id or lookup key',
    help: `  --quantity <n>       default 1
  --customer <cus_...> an existing customer (default: a new buyer)
  --email <address>    of the new buyer
  --card <number>      a Stripe test card, e.g. 4000000000000259 is disputed later
  --outcome <word>     ${OUTCOMES.join(', ')}
  --trial <days>       of a plan
  --user <id>          client_reference_id of the session
  --invoice            make an invoice of a one-time purchase
  --open               do not pay: print the checkout page's address`,
    options: {
      quantity: text,
      customer: text,
      email: text,
      card: text,
      outcome: text,
      trial: text,
      user: text,
      invoice: on,
      open: on,
    },
    run: (sandbox, words, values) =>
      sandbox.buy({
        price: word(words, 0, 'price'),
        ...given({
          quantity: numberOption(values, 'quantity'),
          customer: textOption(values, 'customer'),
          email: textOption(values, 'email'),
          card_number: textOption(values, 'card')?.replaceAll(/[\s-]/g, ''),
          outcome: choice('--outcome', textOption(values, 'outcome'), OUTCOMES),
          trial_days: numberOption(values, 'trial'),
          client_reference_id: textOption(values, 'user'),
          invoice: values.invoice === true ? true : undefined,
          pay: values.open === true ? false : undefined,
        }),
      }),
    show: ({ outcome, session }) =>
      outcome === 'open'
        ? `Open ${session.url} to pay.`
        : outcome === 'declined'
          ? `Declined; ${session.id} is still open.`
          : `Bought: ${session.id} is ${session.payment_status}.${session.subscription === null ? '' : ` Subscription ${session.subscription} has started.`}`,
  }),
  refund: command({
    usage: '<paid> [options]',
    about: 'sends money back',
    help: `${PAID}
  --amount <n>    in the smallest unit, e.g. cents (default: all that is left)
  --course <word> succeeded, pending, fails_later, requires_action (default: what the card does)
To end one: refund --end <re_...> --status succeeded|failed|canceled`,
    options: { amount: text, course: text, end: text, status: text },
    run: (sandbox, words, values) => {
      const end = textOption(values, 'end');
      if (end !== undefined) {
        const status = choice('--status', textOption(values, 'status'), [
          'succeeded',
          'failed',
          'canceled',
        ]);
        if (status === undefined) throw new UsageError('--end needs --status.');
        return sandbox.endRefund(end, status);
      }
      const courses = ['succeeded', 'pending', 'fails_later', 'requires_action'] as const;
      const options: RefundOptions = given({
        amount: numberOption(values, 'amount'),
        course: choice('--course', textOption(values, 'course'), courses),
      });
      return sandbox.refund(word(words, 0, 'paid'), options);
    },
    show: ({ id, status, amount, currency }) =>
      `Refund ${id} of ${amount} ${currency} is ${status}.`,
  }),
  dispute: command({
    usage: '<paid> [options]',
    about: 'the holder of the card goes to his bank',
    help: `${PAID}
  --kind <word>   dispute (default: takes the money at once), inquiry, prevented
  --reason <word> e.g. fraudulent (default), product_not_received, duplicate
  --amount <n>    default: what is left after refunds
What the bank says then: decide <du_...> ${DECISIONS.join('|')}`,
    options: { kind: text, reason: text, amount: text },
    run: (sandbox, words, values) => {
      const options = given({
        kind: choice('--kind', textOption(values, 'kind'), ['dispute', 'inquiry', 'prevented']),
        reason: textOption(values, 'reason'),
        amount: numberOption(values, 'amount'),
      }) as DisputeOptions;
      return sandbox.dispute(word(words, 0, 'paid'), options);
    },
    show: ({ id, status, amount, currency }) =>
      `Dispute ${id} of ${amount} ${currency} is ${status}.`,
  }),
  decide: command({
    usage: `<dispute> <${DECISIONS.join('|')}>`,
    about: 'the bank decides a dispute',
    run: (sandbox, words) => {
      const status = choice('The decision', word(words, 1, 'decision'), DECISIONS);
      if (status === undefined) throw new UsageError('<decision> is missing.');
      return sandbox.decideDispute(word(words, 0, 'dispute'), status);
    },
    show: ({ id, status }) => `Dispute ${id} is ${status}.`,
  }),
  books: command({
    usage: '',
    about: 'compares charges, refunds, disputes, invoices and balances',
    run: (sandbox) => sandbox.checkBooks(),
    show: ({ checked, contradictions }) =>
      contradictions.length === 0
        ? `The books agree (${checked} comparison${checked === 1 ? '' : 's'}).`
        : `The books do NOT agree:\n${contradictions.join('\n')}`,
  }),
};
