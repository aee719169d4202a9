import { z } from 'zod';
import { postJson } from './boundedFetch.ts';
import { idempotencyKey } from './mailIds.ts';
import { type MailTransport, SEND_SECONDS_MAX, SendError } from './transport.ts';

export interface ResendOptions {
  apiKey: string;
  from: string;
  /** Another origin, for tests. */
  apiBase?: string;
  /** Default SEND_SECONDS_MAX. */
  secondsMax?: number;
}

const answerSchema = z.object({
  id: z.string().optional(),
  name: z.string().optional(),
  message: z.string().optional(),
});

/** Addresses and contents that Resend will not take at any time. */
const PERMANENT = new Set([400, 413, 422]);

/**
 * Resend, by one call. Its idempotency key is the notification's: Resend answers a repeat within a
 * day with the first answer. https://resend.com/docs/dashboard/emails/idempotency-keys
 */
export function createResendTransport({
  apiKey,
  from,
  apiBase = 'https://api.resend.com',
  secondsMax = SEND_SECONDS_MAX,
}: ResendOptions): MailTransport {
  return {
    name: 'resend',
    // Two requests a second is what new accounts are allowed.
    concurrency: 2,
    async send(mail) {
      const answer = await postJson(
        `${apiBase}/emails`,
        {
          from,
          to: [mail.to],
          subject: mail.subject,
          html: mail.html,
          text: mail.text,
          headers: { 'Auto-Submitted': 'auto-generated' },
        },
        {
          what: 'Resend',
          secondsMax,
          headers: {
            authorization: `Bearer ${apiKey}`,
            'idempotency-key': idempotencyKey(mail.key),
          },
        },
      );
      const { id, name, message } = read(answer.body);
      if (answer.status >= 200 && answer.status < 300) return { providerId: id ?? null };
      // It has sent a mail under this key, whose text this version would write otherwise.
      if (name === 'invalid_idempotent_request') return { providerId: null };
      throw new SendError(
        `Resend answered ${answer.status}${name === undefined ? '' : ` ${name}`}: ${message ?? 'no reason given'}`,
        {
          permanent: isPermanent(answer.status, name),
          retryAfterSeconds: answer.retryAfterSeconds,
        },
      );
    },
  };
}

/** A wrong sender is a setting, and mends itself for every mail when it is mended. */
function isPermanent(status: number, name: string | undefined): boolean {
  return PERMANENT.has(status) && name !== 'invalid_from_address';
}

function read(body: string): z.infer<typeof answerSchema> {
  try {
    return answerSchema.parse(JSON.parse(body));
  } catch {
    return {}; // an answer of something in between; its status is told
  }
}
