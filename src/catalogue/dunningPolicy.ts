import { PurserError } from '../core/errors.ts';
import type { CatalogueFile } from './catalogueSchema.ts';

/** What is done, and when, about an invoice that could not be collected. Days count from the failure. */
export interface DunningPolicy {
  /** Days of the mails, rising. */
  mailDays: readonly number[];
  /** Day on which the subscription is canceled; null = never by Purser. */
  cancelDay: number | null;
  /** How many days beyond `cancelDay` Stripe's own retries are waited for. */
  waitForRetriesDays: number;
}

/** Stripe retries for two months at the most, so by default it always has its turn first. */
const DEFAULT: DunningPolicy = { mailDays: [0, 3, 7], cancelDay: 10, waitForRetriesDays: 60 };

/** The policy a catalogue writes, over the default. Errors: `invalid_request`, naming the field. */
export function toDunningPolicy(file: CatalogueFile['dunning'], path: string): DunningPolicy {
  const policy: DunningPolicy = {
    mailDays: file?.mail_days ?? DEFAULT.mailDays,
    cancelDay: file?.cancel_day === undefined ? DEFAULT.cancelDay : file.cancel_day,
    waitForRetriesDays: file?.wait_for_retries_days ?? DEFAULT.waitForRetriesDays,
  };
  const lastMail = policy.mailDays.at(-1) ?? 0;
  if (policy.cancelDay !== null && policy.cancelDay <= lastMail) {
    const message = `must be after the last of mail_days, ${lastMail}: nobody is canceled unwarned`;
    throw new PurserError('invalid_request', {
      detail: `The catalogue is not valid. ${path}.cancel_day: ${message}.`,
      extensions: { errors: [{ path: `${path}.cancel_day`, message }] },
    });
  }
  return policy;
}
