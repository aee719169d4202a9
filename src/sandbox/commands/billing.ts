import type { FailOptions, PayInvoiceOptions } from '../handle.types.ts';
import { command, given, numberOption, textOption, UsageError, word } from './command.ts';

const text = { type: 'string' } as const;
const on = { type: 'boolean' } as const;

const told = ({ id, status }: { id: string; status: string }) => `Subscription ${id} is ${status}.`;

export const billingCommands = {
  renew: command({
    usage: '<subscription>',
    about: 'ends the current period of a subscription now and bills the next one',
    run: (sandbox, words) => sandbox.renew(word(words, 0, 'subscription')),
    show: ({ invoice }) =>
      invoice === null
        ? 'Renewed; there was nothing to bill.'
        : `Invoice ${invoice.id} is ${invoice.status}, ${invoice.amount_paid} paid.`,
  }),
  cancel: command({
    usage: '<subscription> [--at-period-end] [--prorate]',
    about: 'ends a subscription now, or with its period',
    help: `  --at-period-end  it runs until its period is over
  --prorate        the rest of the period becomes credit (when it ends now)`,
    options: { 'at-period-end': on, prorate: on },
    run: (sandbox, words, values) =>
      sandbox.cancelSubscription(word(words, 0, 'subscription'), {
        at_period_end: values['at-period-end'] === true,
        prorate: values.prorate === true,
      }),
    show: ({ id, status, cancel_at }) =>
      cancel_at !== null && status !== 'canceled'
        ? `Subscription ${id} ends at ${new Date(cancel_at * 1_000).toISOString()}.`
        : told({ id, status }),
  }),
  pause: command({
    usage: '<subscription>',
    about: 'pauses a subscription; the rest of its period becomes credit',
    run: (sandbox, words) => sandbox.pauseSubscription(word(words, 0, 'subscription')),
    show: told,
  }),
  resume: command({
    usage: '<subscription>',
    about: 'lets a paused subscription go on, with a new period',
    run: (sandbox, words) => sandbox.resumeSubscription(word(words, 0, 'subscription')),
    show: told,
  }),
  fail: command({
    usage: '<customer> [options]',
    about: 'declines the next payments of a customer, whatever his card is',
    help: `  --times <n>    default 1; 0 calls it off
  --code <word>  e.g. insufficient_funds (default: generic_decline)`,
    options: { times: text, code: text },
    run: async (sandbox, words, values) => {
      const customer = word(words, 0, 'customer');
      const options: FailOptions = given({
        times: numberOption(values, 'times'),
        decline_code: textOption(values, 'code'),
      });
      await sandbox.failNextPayments(customer, options);
      return { customer, times: options.times ?? 1 };
    },
    show: ({ customer, times }) =>
      times === 0
        ? `${customer} pays again.`
        : `The next ${times === 1 ? 'payment' : `${times} payments`} of ${customer} will be declined.`,
  }),
  card: command({
    usage: '<customer> <number>',
    about: 'gives a customer another default card: a test number of Stripe',
    run: async (sandbox, words) => {
      const customer = word(words, 0, 'customer');
      word(words, 1, 'number');
      const number = words.slice(1).join('').replaceAll(/[\s-]/g, '');
      await sandbox.setCard(customer, number);
      return { customer, last4: number.slice(-4) };
    },
    show: ({ customer, last4 }) => `${customer} pays with the card that ends in ${last4}.`,
  }),
  pay: command({
    usage: '<invoice> [options]',
    about: 'pays an invoice, or a part of it, also after failures',
    help: `  --amount <n>     a part, in the smallest unit, e.g. cents
  --out-of-band    paid outside of Stripe`,
    options: { amount: text, 'out-of-band': on },
    run: (sandbox, words, values) => {
      const options: PayInvoiceOptions = given({
        amount: numberOption(values, 'amount'),
        out_of_band: values['out-of-band'] === true ? true : undefined,
      });
      return sandbox.payInvoice(word(words, 0, 'invoice'), options);
    },
    show: ({ invoice }) =>
      invoice === null
        ? 'There was nothing to pay.'
        : `Invoice ${invoice.id} is ${invoice.status}, ${invoice.amount_paid} paid.`,
  }),
  settle: command({
    usage: '<session> [succeeded|failed]',
    about: 'the bank answers a debit now',
    run: async (sandbox, words) => {
      const session = word(words, 0, 'session');
      const outcome = words[1] ?? 'succeeded';
      if (outcome !== 'succeeded' && outcome !== 'failed') {
        throw new UsageError(`A debit has succeeded or failed, not ${outcome}.`);
      }
      await sandbox.settle(session, outcome);
      return { session, outcome };
    },
    show: ({ session, outcome }) => `The debit of ${session} has ${outcome}.`,
  }),
};
