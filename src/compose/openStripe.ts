import path from 'node:path';
import type Stripe from 'stripe';
import type { Catalogue } from '../catalogue/catalogue.ts';
import { digest } from '../checkout/digest.ts';
import type { Settings } from '../config.ts';
import type { Logger } from '../core/ports.ts';
import { createStripeClient } from '../stripe/stripeClient.ts';
import { keepEndpoint } from './keepEndpoint.ts';
import { openStripeAccount } from './openStripeAccount.ts';
import { sandboxCatalogue } from './sandboxCatalogue.ts';

export interface OpenedStripe {
  stripe: Stripe;
  /** A fingerprint: answers of one account say nothing about another's. */
  account: string;
  webhookSecrets: string[];
  /** One line for the start-up report. */
  description: string;
  /** Origins our pages may send a buyer to, beside Stripe's own. */
  formOrigins: string[];
  /** Called once the server listens: the sandbox learns where events go. */
  announce(publicUrl: string): Promise<void>;
  stop(): Promise<void>;
}

/** Stripe itself where there is a key, else the sandbox of the data directory. */
export async function openStripe(
  settings: Settings,
  catalogue: Catalogue,
  logger: Logger,
): Promise<OpenedStripe> {
  if (settings.parts.stripe === 'stripe') return openStripeAccount(settings);
  return openSandbox(settings, catalogue, logger);
}

/** Loaded only when it is used: the sandbox stays out of production bundles. */
async function openSandbox(
  settings: Settings,
  catalogue: Catalogue,
  logger: Logger,
): Promise<OpenedStripe> {
  const { joinOrStartSandbox } = await import('../sandbox/index.ts');
  const sandbox = await joinOrStartSandbox({
    dataDir: path.join(settings.dataDir, 'sandbox'),
    // What Stripe does is not what Purser does: its deliveries are seen with LOG_LEVEL=debug.
    logger: { ...logger, info: logger.debug },
  });
  await sandbox.seedCatalogue(sandboxCatalogue(catalogue));
  const stripe = createStripeClient({ secretKey: sandbox.secretKey, apiBase: sandbox.origin });
  let endpoint: { stop(): void } | null = null;
  return {
    stripe,
    account: digest(sandbox.secretKey),
    webhookSecrets: [sandbox.webhookSecret],
    description: `sandbox at ${sandbox.origin}${sandbox.joined ? ', joined' : ''}`,
    formOrigins: [sandbox.origin],
    async announce(publicUrl) {
      endpoint = await keepEndpoint(
        { sandbox, stripe },
        `${publicUrl}/api/webhooks/stripe`,
        logger,
      );
    },
    async stop() {
      endpoint?.stop();
      await sandbox.stop();
    },
  };
}
