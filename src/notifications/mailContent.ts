import { z } from 'zod';
import {
  MailDataError,
  NOTIFICATION_DATA,
  type NotificationData,
  type NotificationKind,
} from './kinds.ts';
import { creditsText, day, figure, money, oneLine, webAddress } from './plainText.ts';

/** Who writes to the reader. */
export interface Brand {
  /** What the reader knows the product by. */
  name: string;
  /** Of this server, without a slash at the end. */
  publicUrl: string;
  /** Where readers get help: an address or a page. */
  support: string | null;
}

/** What a mail says, in the order it is read; HTML and text are made of the same. */
export interface MailContent {
  subject: string;
  /** What inboxes show beside the subject. */
  preview: string;
  tone: 'calm' | 'good' | 'warning' | 'urgent' | 'final';
  /** Above the heading, in the tone's colour. */
  label: string;
  heading: string;
  paragraphs: string[];
  facts: [label: string, value: string][];
  action: { label: string; url: string } | null;
  links: { label: string; url: string }[];
  /** Why the reader is written to. */
  reason: string;
}

type Writer<Kind extends NotificationKind> = (
  data: NotificationData[Kind],
  brand: Brand,
) => MailContent;

const NAME_LENGTH_MAX = 100;
const shown = (name: string) => oneLine(name, NAME_LENGTH_MAX);

const account = (brand: Brand) => `${brand.publicUrl}/account`;
const pricing = (brand: Brand) => `${brand.publicUrl}/pricing`;

/** Facts whose value is known. */
function known(...facts: [string, string | null][]): [string, string][] {
  return facts.filter((fact): fact is [string, string] => fact[1] !== null && fact[1] !== '');
}

function linksOf(...links: [string, string | null][]): { label: string; url: string }[] {
  return links.flatMap(([label, address]) => {
    const url = webAddress(address);
    return url === null ? [] : [{ label, url }];
  });
}

function actionOf(label: string, address: string | null, otherwise: string) {
  const url = webAddress(address) ?? webAddress(otherwise);
  return url === null ? null : { label, url };
}

const BECAUSE_CUSTOMER = 'You receive this because you are a customer of';

const trialEnding: Writer<'trial_ending'> = (data, brand) => {
  const plan = shown(data.plan_name);
  const price = money(data.amount, data.currency);
  return {
    subject: `Your ${plan} trial ends on ${day(data.trial_end)}`,
    preview: price === null ? 'Nothing to do if you stay.' : `Then it is ${price}.`,
    tone: 'calm',
    label: 'Trial ending',
    heading: `Your trial of ${plan} ends soon`,
    paragraphs: [
      `Your trial ends on ${day(data.trial_end)}. ${
        price === null
          ? 'Your plan goes on from then.'
          : `From then your plan goes on, and ${price} is charged to the card on file.`
      }`,
      'If you want to stay, there is nothing to do. To change or cancel the plan, open your account before that day.',
    ],
    facts: known(['Plan', plan], ['Trial ends', day(data.trial_end)], ['Then', price]),
    action: actionOf('Manage your plan', data.manage_url, account(brand)),
    links: [],
    reason: `${BECAUSE_CUSTOMER} ${brand.name}.`,
  };
};

/** How the same trouble is told each time: it must be clear at a glance which one it is. */
const URGENCY = {
  first: {
    tone: 'warning',
    label: 'Payment failed',
    subject: 'Your payment did not go through',
    heading: 'Your payment did not go through',
    advice:
      'This happens, for example when a card has expired. Please check your payment details; we try again by ourselves.',
    button: 'Update payment',
  },
  second: {
    tone: 'urgent',
    label: 'Action needed',
    subject: 'Action needed: your payment is still open',
    heading: 'Your payment is still open',
    advice:
      'We have tried again, without success. Until it is paid, the credits of your plan cannot be used.',
    button: 'Pay now',
  },
  final: {
    tone: 'final',
    label: 'Final notice',
    subject: 'Final notice: your subscription is about to be canceled',
    heading: 'Your subscription is about to be canceled',
    advice:
      'This is the last reminder. If the invoice is not paid now, your subscription is canceled. Credits you bought stay yours.',
    button: 'Pay now to keep it',
  },
} as const;

const paymentFailed: Writer<'payment_failed'> = (data, brand) => {
  const { tone, label, subject, heading, advice, button } = URGENCY[data.urgency];
  const price = money(data.amount, data.currency);
  const days = data.days_overdue;
  return {
    subject,
    preview: price === null ? advice : `${price} could not be charged.`,
    tone,
    label,
    heading,
    paragraphs: [
      price === null
        ? 'The payment of your subscription could not be charged.'
        : `We could not charge ${price} for your subscription.`,
      advice,
    ],
    facts: known(
      ['Amount', price],
      ['Invoice', data.invoice_number === null ? null : shown(data.invoice_number)],
      ['Attempts so far', figure(data.attempt_count)],
      ['Overdue', days > 0 ? `${figure(days)} ${days === 1 ? 'day' : 'days'}` : null],
      ['Next attempt', data.next_attempt_at === null ? null : day(data.next_attempt_at)],
    ),
    action: actionOf(button, data.invoice_url, account(brand)),
    links: linksOf(['Change your payment method', account(brand)]),
    reason: `You receive this because a payment to ${brand.name} is open.`,
  };
};

const subscriptionCanceled: Writer<'subscription_canceled'> = (data, brand) => {
  const plan = shown(data.plan_name);
  const failed = data.reason === 'payment_failed';
  return {
    subject: `Your ${plan} subscription ${failed ? 'was canceled' : 'has ended'}`,
    preview: 'Credits you bought stay yours.',
    tone: failed ? 'urgent' : 'calm',
    label: failed ? 'Subscription canceled' : 'Subscription ended',
    heading: failed ? 'Your subscription was canceled' : 'Your subscription has ended',
    paragraphs: [
      failed
        ? `Your ${plan} subscription was canceled because its last invoice was not paid.`
        : `As you asked, your ${plan} subscription has ended. Nothing more is charged.`,
      'Credits you bought stay in your account. You can subscribe again at any time.',
    ],
    facts: known(['Plan', plan], ['Ended', data.ended_at === null ? null : day(data.ended_at)]),
    action: actionOf('Subscribe again', null, pricing(brand)),
    links: [],
    reason: `${BECAUSE_CUSTOMER} ${brand.name}.`,
  };
};

const paymentReceipt: Writer<'payment_receipt'> = (data, brand) => {
  const plan = shown(data.plan_name);
  const price = money(data.amount, data.currency);
  const { period_start: from, period_end: to } = data;
  return {
    subject: `Your receipt for ${plan}`,
    preview: `${price === null ? 'Paid' : `${price} paid`}, ${creditsText(data.credits)} added.`,
    tone: 'good',
    label: 'Payment received',
    heading: 'Thank you for your payment',
    paragraphs: [`Your ${plan} plan is paid, and ${creditsText(data.credits)} were added.`],
    facts: known(
      ['Plan', plan],
      ['Paid', price],
      ['Period', from === null || to === null ? null : `${day(from)} to ${day(to)}`],
      ['Credits added', figure(data.credits)],
      ['Your balance', data.balance === null ? null : creditsText(data.balance)],
      ['Invoice', data.invoice_number === null ? null : shown(data.invoice_number)],
    ),
    action: actionOf('View invoice', data.invoice_url, account(brand)),
    links: linksOf(['Download as PDF', data.invoice_pdf], ['Your account', account(brand)]),
    reason: `You receive this because you paid ${brand.name}.`,
  };
};

const purchaseReceipt: Writer<'purchase_receipt'> = (data, brand) => {
  const name = shown(data.name);
  const price = money(data.amount, data.currency);
  const balance = data.balance === null ? null : creditsText(data.balance);
  return {
    subject: `Your receipt: ${name}`,
    preview: balance === null ? `${creditsText(data.credits)} added.` : `You now have ${balance}.`,
    tone: 'good',
    label: 'Purchase complete',
    heading: `${creditsText(data.credits)} added`,
    paragraphs: [
      `Thank you for your purchase.${balance === null ? '' : ` Your new balance is ${balance}.`}`,
    ],
    facts: known(
      ['Bought', name],
      ['Paid', price],
      ['Credits added', figure(data.credits)],
      ['New balance', balance],
    ),
    action: actionOf('See your balance', null, account(brand)),
    links: linksOf(['View invoice', data.invoice_url], ['View receipt', data.receipt_url]),
    reason: `You receive this because you bought from ${brand.name}.`,
  };
};

const lowBalance: Writer<'low_balance'> = (data, brand) => {
  const left = data.available === null ? null : creditsText(Math.max(0, data.available));
  const empty = data.available !== null && data.available <= 0;
  return {
    subject: empty ? 'Your credits are used up' : 'Your credits are running low',
    preview: left === null ? 'Top up to go on.' : `${left} left.`,
    tone: 'warning',
    label: 'Low balance',
    heading: empty ? 'Your credits are used up' : 'Your credits are running low',
    paragraphs: [
      left === null || empty
        ? 'There are no credits left in your account. Top up to go on without a break.'
        : `There are ${left} left in your account. Top up to go on without a break.`,
    ],
    facts: known(['Left', left]),
    action: actionOf('Get more credits', data.buy_url, pricing(brand)),
    links: [],
    reason: `You receive this once, when your balance at ${brand.name} falls to ${creditsText(data.threshold)}.`,
  };
};

const creditsExpiring: Writer<'credits_expiring'> = (data, brand) => ({
  subject: `${creditsText(data.credits)} expire on ${day(data.expires_at)}`,
  preview: 'Use them before they are gone.',
  tone: 'warning',
  label: 'Credits expiring',
  heading: `${creditsText(data.credits)} expire soon`,
  paragraphs: [
    `What is left of them on ${day(data.expires_at)} expires. Credits that expire first are spent first, so there is nothing to do but to use them.`,
  ],
  facts: known(['Credits', figure(data.credits)], ['Expire on', day(data.expires_at)]),
  action: actionOf('See your balance', null, account(brand)),
  links: linksOf(['Get more credits', data.buy_url ?? pricing(brand)]),
  reason: `You receive this because you have credits at ${brand.name} that expire.`,
});

const claimLink: Writer<'claim_link'> = (data, brand) => ({
  subject: `Claim your ${creditsText(data.credits)}`,
  preview: 'Your payment arrived. Tell us which account it is for.',
  tone: 'calm',
  label: 'Payment received',
  heading: 'Which account are your credits for?',
  paragraphs: [
    `Your payment arrived, but it does not say which account it is for. Open the link, sign in, and your ${creditsText(data.credits)} are added.`,
    `The link works once, until ${day(data.expires_at)}. Whoever has it can take the credits, so do not pass it on.`,
  ],
  facts: known(['Credits', figure(data.credits)], ['Valid until', day(data.expires_at)]),
  // Behind the #, so that it stands in no server's log.
  action:
    data.token === null
      ? null
      : actionOf(
          'Claim your credits',
          `${brand.publicUrl}/claim#purchase=${data.token}`,
          account(brand),
        ),
  links: [],
  reason: `You receive this because this address was given when paying ${brand.name}.`,
});

const WRITERS: { [Kind in NotificationKind]: Writer<Kind> } = {
  trial_ending: trialEnding,
  payment_failed: paymentFailed,
  subscription_canceled: subscriptionCanceled,
  payment_receipt: paymentReceipt,
  purchase_receipt: purchaseReceipt,
  low_balance: lowBalance,
  credits_expiring: creditsExpiring,
  claim_link: claimLink,
};

/**
 * What a message says; without React Email, which only its HTML needs. Errors: `MailDataError` when
 * the data is not what its kind is told with.
 */
export function writeMail(kind: NotificationKind, data: unknown, brand: Brand): MailContent {
  const parsed = NOTIFICATION_DATA[kind].safeParse(data);
  if (!parsed.success) {
    throw new MailDataError(
      `The data of a message of kind ${kind} is not right:\n${z.prettifyError(parsed.error)}`,
    );
  }
  const write = WRITERS[kind] as Writer<NotificationKind>;
  const content = write(parsed.data, { ...brand, name: shown(brand.name) });
  return { ...content, subject: oneLine(content.subject, 200) };
}
