import { z } from 'zod';

const CREDITS_MAX = 9_007_199_254_740_991;
const id = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, 'must have 1 to 64 letters, digits, _ or -');
const credits = z.int().min(1).max(CREDITS_MAX);
const unitAmount = z.int().min(0).max(99_999_999);
const quotas = z.record(z.string(), z.int().min(0));

/** Longer than Stripe's own retries ever take (two months). */
const DUNNING_DAYS_MAX = 90;
const MAILS_MAX = 10;
const day = z.int().min(0).max(DUNNING_DAYS_MAX);

/** What is done about an invoice of a subscription that could not be collected; see docs/dunning.md. */
const dunning = z.strictObject({
  mail_days: z
    .array(day)
    .min(1)
    .max(MAILS_MAX)
    .refine(
      (days) => days.every((each, index) => index === 0 || each > (days[index - 1] ?? 0)),
      'must rise from one to the next',
    )
    .optional(),
  cancel_day: day.nullable().optional(),
  wait_for_retries_days: day.optional(),
});

/** One-time purchases. `amount` is the unit price in the currency's smallest unit. */
const pack = z.strictObject({
  name: z.string().min(1).optional(),
  description: z.string().nullable().optional(),
  lookup_key: z.string().min(1).optional(),
  price_id: z.string().min(1).optional(),
  product_id: z.string().min(1).optional(),
  credits,
  amount: unitAmount,
  expires_after_days: z.int().min(3).max(36_500).nullable().optional(),
  invoice: z.boolean().optional(),
});

/** Subscriptions: `credits` are granted for each `interval` that was paid. */
const plan = z.strictObject({
  name: z.string().min(1).optional(),
  description: z.string().nullable().optional(),
  lookup_key: z.string().min(1).optional(),
  price_id: z.string().min(1).optional(),
  product_id: z.string().min(1).optional(),
  interval: z.enum(['month', 'year']).optional(),
  credits,
  amount: unitAmount,
  trial_credits: z.int().min(0).max(CREDITS_MAX).optional(),
  expires_after_days: z.int().min(3).max(36_500).nullable().optional(),
  rollover: z.boolean().optional(),
  tier: z.string().min(1).optional(),
  quotas: quotas.optional(),
  dunning: dunning.optional(),
});

/** What customers are written about, and by whom. */
const mail = z.strictObject({
  name: z.string().min(1).max(100).optional(),
  support: z.string().min(3).max(300).nullable().optional(),
  low_balance: credits.nullable().optional(),
  expiring_days: z.int().min(1).max(90).nullable().optional(),
  off: z
    .array(
      z.enum([
        'trial_ending',
        'payment_failed',
        'subscription_canceled',
        'payment_receipt',
        'purchase_receipt',
        'low_balance',
        'credits_expiring',
        'claim_link',
      ]),
    )
    .optional(),
});

/** The catalogue file, as the contract describes it; unknown fields are refused by name. */
export const catalogueSchema = z.strictObject({
  currency: z.string().regex(/^[a-z]{3}$/, 'must be a three-letter currency code in lower case'),
  free_plan: z
    .strictObject({
      id: id.optional(),
      welcome_credits: z.int().min(0).max(CREDITS_MAX).optional(),
      quotas: quotas.optional(),
    })
    .optional(),
  packs: z.record(id, pack).optional(),
  plans: z.record(id, plan).optional(),
  features: z.record(id, credits).optional(),
  mail: mail.optional(),
  dunning: dunning.optional(),
});

export type CatalogueFile = z.infer<typeof catalogueSchema>;
