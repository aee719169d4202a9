import { loadMailer } from './loadMailer.ts';
import { createResendTransport } from './resendTransport.ts';
import type { MailTransport } from './transport.ts';

/** As the settings say it; `from` is there when one of the others is. */
export interface MailSettings {
  readonly smtpUrl: string | null;
  readonly resendApiKey: string | null;
  readonly from: string | null;
}

/**
 * The transport the settings name; null = mails stay in the outbox. Connects to nothing yet, and
 * loads nodemailer with the first mail.
 */
export function openMail({ smtpUrl, resendApiKey, from }: MailSettings): {
  transport: MailTransport | null;
  /** One line for the start-up report. */
  description: string;
} {
  if (from !== null && smtpUrl !== null) {
    const { host } = new URL(smtpUrl);
    return {
      transport: {
        name: 'smtp',
        concurrency: 5,
        send: async (mail) => (await smtp()).send(mail),
      },
      description: `SMTP at ${host}, from ${from}`,
    };
  }
  if (from !== null && resendApiKey !== null) {
    return {
      transport: createResendTransport({ apiKey: resendApiKey, from }),
      description: `Resend, from ${from}`,
    };
  }
  return { transport: null, description: 'outbox in the database' };

  async function smtp(): Promise<MailTransport> {
    const { createSmtpTransport } = await loadMailer();
    return createSmtpTransport({ url: smtpUrl ?? '', from: from ?? '' });
  }
}
