import { createStripeClient } from '../../stripe/stripeClient.ts';
import { CannotLook, messageOf } from './rule.ts';
import type { Site } from './site.ts';

/**
 * Posts to the webhook route as Stripe does. Bodies are signed but are no events, so that nothing
 * is written: Purser answers `invalid_request` to a good signature and `invalid_signature` to a bad one.
 */
export interface WebhookProbe {
  /** What answers an unsigned request. Never rejects. */
  reach(): Promise<Reached>;
  /** Rejects with `CannotLook` when what answers is not Purser's webhook route. */
  signed(secret: string, body: string): Promise<{ accepted: boolean; detail: string }>;
}

export type Reached =
  | {
      how: 'answered';
      status: number;
      location: string | null;
      code: string | null;
      detail: string;
    }
  | { how: 'silent'; error: string };

const ANSWER_MS = 8_000;
/** What is read of an answer that is not ours. */
const SHOWN_MAX = 80;

export function createWebhookProbe(site: () => Site): WebhookProbe {
  let reached: Promise<Reached> | null = null;

  async function post(body: string, signature: string | null): Promise<Reached> {
    try {
      const response = await fetch(site().webhookUrl, {
        method: 'POST',
        redirect: 'manual',
        signal: AbortSignal.timeout(ANSWER_MS),
        headers: {
          'content-type': 'application/json',
          'user-agent': 'purser-doctor',
          ...(signature === null ? {} : { 'stripe-signature': signature }),
        },
        body,
      });
      const text = await response.text();
      const problem = readProblem(text);
      return {
        how: 'answered',
        status: response.status,
        location: response.headers.get('location'),
        code: problem?.code ?? null,
        detail: problem?.detail ?? text.replace(/\s+/g, ' ').trim().slice(0, SHOWN_MAX),
      };
    } catch (error) {
      const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
      return { how: 'silent', error: messageOf(cause) };
    }
  }

  return {
    reach() {
      reached ??= post('{}', null);
      return reached;
    },
    async signed(secret, body) {
      const { webhooks } = createStripeClient({ secretKey: 'sk_test_doctor' });
      const timestamp = Math.floor(site().nowMs() / 1000);
      const header = webhooks.generateTestHeaderString({ payload: body, secret, timestamp });
      const answer = await post(body, header);
      if (answer.how === 'answered' && answer.code === 'invalid_request') {
        return { accepted: true, detail: answer.detail };
      }
      if (answer.how === 'answered' && answer.code === 'invalid_signature') {
        return { accepted: false, detail: answer.detail };
      }
      throw new CannotLook(
        `${site().webhookUrl} did not answer as Purser does; see "webhook-endpoint".`,
      );
    },
  };
}

function readProblem(text: string): { code: string; detail: string } | null {
  try {
    const { code, detail } = JSON.parse(text) as { code?: unknown; detail?: unknown };
    return typeof code === 'string' ? { code, detail: String(detail ?? '') } : null;
  } catch {
    return null; // not JSON, so not ours
  }
}
