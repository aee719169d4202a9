import { z } from 'zod';

/**
 * The kinds of e-mail, and what each is told with. Amounts are integers in the smallest unit of
 * their currency, times ISO 8601, links absolute or null (then Purser's own page stands in, where
 * there is one). `balance` and `available` are filled in when a message is first sent.
 */

const amount = z.int().nullable();
const currency = z.string().nullable();
const credits = z.int();
const instant = z.iso.datetime({ offset: true });
const name = z.string();
const link = z.string().nullable().default(null);
const filledIn = { balance: z.int().nullable().default(null) };

/** Unknown members are left out: messages written by another version are still readable. */
export const NOTIFICATION_DATA = {
  trial_ending: z.object({
    plan_name: name,
    trial_end: instant,
    amount,
    currency,
    manage_url: link,
  }),
  payment_failed: z.object({
    urgency: z.enum(['first', 'second', 'final']),
    attempt_count: z.int(),
    days_overdue: z.int(),
    amount,
    currency,
    invoice_url: link,
    next_attempt_at: instant.nullable().default(null),
    invoice_number: z.string().nullable().default(null),
  }),
  subscription_canceled: z.object({
    plan_name: name,
    ended_at: instant.nullable(),
    reason: z.enum(['requested', 'payment_failed']),
  }),
  payment_receipt: z.object({
    amount,
    currency,
    invoice_number: z.string().nullable().default(null),
    invoice_url: link,
    invoice_pdf: link,
    plan_name: name,
    credits,
    period_start: instant.nullable().default(null),
    period_end: instant.nullable().default(null),
    ...filledIn,
  }),
  purchase_receipt: z.object({
    name,
    credits,
    amount,
    currency,
    invoice_url: link,
    receipt_url: link,
    ...filledIn,
  }),
  low_balance: z.object({
    available: z.int().nullable().default(null),
    threshold: z.int(),
    buy_url: link,
  }),
  credits_expiring: z.object({ credits, expires_at: instant, buy_url: link }),
  /** `token` is what POST /api/claims/:token takes; it is gone once the message is sent. */
  claim_link: z.object({
    token: z.string().nullable().default(null),
    credits,
    expires_at: instant,
  }),
} as const;

export type NotificationKind = keyof typeof NOTIFICATION_DATA;

export type NotificationData = {
  [Kind in NotificationKind]: z.output<(typeof NOTIFICATION_DATA)[Kind]>;
};

export const NOTIFICATION_KINDS = Object.keys(NOTIFICATION_DATA) as NotificationKind[];

export function isNotificationKind(kind: string): kind is NotificationKind {
  return Object.hasOwn(NOTIFICATION_DATA, kind);
}

/** By name: the mailer is a bundle of its own on Vercel, whose classes are other ones than ours. */
export function isMailDataError(error: unknown): error is MailDataError {
  return error instanceof Error && error.name === 'MailDataError';
}

/** A message whose data is not what its kind is told with: no attempt makes it right. */
export class MailDataError extends Error {
  override readonly name = 'MailDataError';
}
