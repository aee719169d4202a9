import { digest } from '../checkout/digest.ts';
import type { Settings } from '../config.ts';
import { createStripeClient } from '../stripe/stripeClient.ts';
import type { OpenedStripe } from './openStripe.ts';

/** Stripe itself, or what STRIPE_API_BASE puts in its place. Needs a key in the settings. */
export function openStripeAccount(settings: Settings): OpenedStripe {
  const { secretKey, apiBase, webhookSecrets } = settings.stripe;
  if (secretKey === null) throw new TypeError('There is no STRIPE_SECRET_KEY');
  return {
    stripe: createStripeClient({ secretKey, apiBase: apiBase ?? undefined }),
    account: digest(secretKey, apiBase ?? ''),
    webhookSecrets: [...webhookSecrets],
    description: `Stripe, ${settings.mode} mode${apiBase === null ? '' : ` at ${apiBase}`}`,
    formOrigins: [],
    announce: async () => {},
    stop: async () => {},
  };
}
