import { createTransport } from 'nodemailer';
import { idempotencyKey, messageId } from './mailIds.ts';
import { senderOf } from './plainText.ts';
import { type MailTransport, SEND_SECONDS_MAX, SendError, withinSeconds } from './transport.ts';

const CONNECT_SECONDS_MAX = 10;
/** Silence on an open connection. */
const IDLE_SECONDS_MAX = 15;
const LOOPBACK = new Set(['127.0.0.1', '[::1]', 'localhost']);
const RESEND_HOST = 'smtp.resend.com';

/** Replies to an address after which nobody need ask again: no such mailbox, not allowed, not valid. */
const ADDRESS_REFUSED = new Set([550, 551, 553, 556]);

export interface SmtpOptions {
  /** smtp://user:password@host:587, or smtps:// where TLS comes first. */
  url: string;
  from: string;
  /** Default SEND_SECONDS_MAX. */
  secondsMax?: number;
}

/**
 * SMTP. A connection for each mail: there are few, and a pool would have to be watched. TLS is
 * required before a password is sent, except to this machine. The Message-ID comes from the key, so
 * that a mail that was taken twice is one mail to readers and relays that look at it.
 */
export function createSmtpTransport({
  url,
  from,
  secondsMax = SEND_SECONDS_MAX,
}: SmtpOptions): MailTransport {
  const { hostname, username } = new URL(url);
  const sender = senderOf(from);
  const transport = createTransport({
    url,
    requireTLS: username !== '' && !LOOPBACK.has(hostname),
    connectionTimeout: CONNECT_SECONDS_MAX * 1000,
    greetingTimeout: CONNECT_SECONDS_MAX * 1000,
    dnsTimeout: CONNECT_SECONDS_MAX * 1000,
    socketTimeout: IDLE_SECONDS_MAX * 1000,
    // A mail is what was rendered: nothing of it is read from files or the network.
    disableFileAccess: true,
    disableUrlAccess: true,
  });
  return {
    name: 'smtp',
    concurrency: 5,
    async send(mail) {
      const sent = transport.sendMail({
        from: { name: sender.name ?? '', address: sender.address },
        to: { name: '', address: mail.to },
        subject: mail.subject,
        text: mail.text,
        html: mail.html,
        date: mail.date,
        messageId: messageId(mail.key, sender.address),
        headers: {
          // Nobody's holiday notice is to answer it.
          'Auto-Submitted': 'auto-generated',
          ...(hostname === RESEND_HOST
            ? { 'Resend-Idempotency-Key': idempotencyKey(mail.key) }
            : {}),
        },
      });
      try {
        const { messageId: id } = await withinSeconds(
          secondsMax,
          `The mail server ${hostname}`,
          sent,
        );
        return { providerId: id };
      } catch (error) {
        // Whatever comes of it later, this attempt is over.
        sent.catch(() => {});
        throw explain(error, hostname);
      }
    },
  };
}

function explain(error: unknown, host: string): SendError {
  if (error instanceof SendError) return error;
  const { message, code, responseCode, command } = error as Error & {
    code?: string;
    responseCode?: number;
    command?: string;
  };
  const permanent =
    code === 'EENVELOPE' && (responseCode === undefined || ADDRESS_REFUSED.has(responseCode));
  const where = command === undefined ? '' : ` at ${command}`;
  return new SendError(`The mail server ${host} refused${where}: ${message}`, {
    permanent,
    cause: error,
  });
}
