import { API_VERSION, add, type Context } from './context.ts';
import { settings } from './tables.ts';
import type { EventVersion } from './versions.ts';

/** What one sets in Stripe's dashboard rather than in a call, and how the sandbox itself behaves. */
export interface Settings {
  /** `off`: events are made and can be listed, and no webhook is sent. For speed. */
  readonly deliveries: 'on' | 'off';
  /** Waits between payment attempts of an invoice, in days; its length is the number of retries. */
  readonly retry_days: readonly number[];
  /** What becomes of a subscription whose last retry failed. */
  readonly after_last_retry: 'cancel' | 'mark_unpaid' | 'leave_past_due';
  /** What becomes of the invoice of that last retry. */
  readonly invoice_after_last_retry: 'leave_open' | 'mark_uncollectible';
  /** How long the invoice of a renewal stays a draft. Seconds. */
  readonly draft_seconds: number;
  /** Of the account: events API, and webhook endpoints that name no version of their own. */
  readonly api_version: EventVersion;
  /** Finalisation waits for the endpoints' 2xx on invoice.created, up to 72 hours, as at Stripe. */
  readonly draft_waits_for_webhooks: boolean;
  /** Whether the customer portal's settings were ever saved: without that it opens for nobody. */
  readonly portal_saved: boolean;
}
export type SettingsRow = { id: 'settings'; object: 'sandbox.settings'; settings: Settings };

export const RETRIES_MAX = 8;

const DEFAULTS: Settings = {
  deliveries: 'on',
  retry_days: [3, 5, 7],
  after_last_retry: 'cancel',
  invoice_after_last_retry: 'leave_open',
  draft_seconds: 3_600,
  api_version: API_VERSION,
  draft_waits_for_webhooks: true,
  portal_saved: true,
};

export function settingsOf(ctx: Context): Settings {
  return { ...DEFAULTS, ...ctx.store.get(settings, 'settings')?.view.settings };
}

/** Changes the named ones and leaves the others. */
export function changeSettings(ctx: Context, change: Partial<Settings>): Settings {
  const next = { ...settingsOf(ctx), ...change };
  add(ctx, settings, { id: 'settings', object: 'sandbox.settings', settings: next }, {});
  return next;
}
