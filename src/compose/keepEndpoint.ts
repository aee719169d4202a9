import type Stripe from 'stripe';
import type { Logger } from '../core/ports.ts';
import type { Sandbox } from '../sandbox/index.ts';

const LOOK_MS = 2_000;
const ANSWER_MS = 1_000;
/** The endpoint's name in the sandbox; whoever serves it keeps its undelivered events. */
const NAME = 'purser';

/**
 * Sees to it that the sandbox sends events to a living server. Several servers share one data
 * directory; the endpoint belongs to one of them, and when that one is gone another takes it over
 * with everything still to be delivered.
 */
export async function keepEndpoint(
  { sandbox, stripe }: { sandbox: Sandbox; stripe: Stripe },
  url: string,
  logger: Logger,
): Promise<{ stop(): void }> {
  async function look(): Promise<void> {
    const endpoints = await stripe.webhookEndpoints.list({ limit: 100 });
    const current = endpoints.data.find(({ metadata }) => metadata.sandbox_name === NAME)?.url;
    if (current === url || (current !== undefined && (await answers(current)))) return;
    await sandbox.ensureWebhookEndpoint({ name: NAME, url, secret: sandbox.webhookSecret });
  }

  await look();
  let looking = false;
  const timer = setInterval(() => {
    if (looking) return;
    looking = true;
    look()
      .catch((error: unknown) => logger.debug('The sandbox could not be asked', { error }))
      .finally(() => {
        looking = false;
      });
  }, LOOK_MS);
  timer.unref();
  return { stop: () => clearInterval(timer) };
}

async function answers(endpointUrl: string): Promise<boolean> {
  try {
    const response = await fetch(new URL('/healthz', endpointUrl), {
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    return response.ok;
  } catch {
    // Refused or silent: nobody is there, which is the answer.
    return false;
  }
}
