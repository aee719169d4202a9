/** What carries mails to their readers. */

export interface Mail {
  /** The notification's key: the same mail sent again has the same. */
  key: string;
  to: string;
  subject: string;
  html: string;
  text: string;
  /** When it was caused. */
  date: Date;
}

export interface MailTransport {
  readonly name: 'smtp' | 'resend';
  /** Mails sent at once; providers count requests by the second. */
  readonly concurrency: number;
  /**
   * Resolves when the provider has taken the mail. Bounded by SEND_SECONDS_MAX. A mail it took and
   * could not say so is sent again, under the same id. Errors: `SendError`.
   */
  send(mail: Mail): Promise<{ providerId: string | null }>;
}

/** One attempt never takes longer, whatever the other side does. */
export const SEND_SECONDS_MAX = 30;

export class SendError extends Error {
  override readonly name = 'SendError';
  /** True when no repeat will be taken: the reader's address is refused, or the mail itself. */
  readonly permanent: boolean;
  /** The provider asked not to be called sooner. */
  readonly retryAfterSeconds: number;

  constructor(
    message: string,
    options: { permanent?: boolean; retryAfterSeconds?: number; cause?: unknown } = {},
  ) {
    super(message, { cause: options.cause });
    this.permanent = options.permanent ?? false;
    this.retryAfterSeconds = options.retryAfterSeconds ?? 0;
  }
}

/**
 * By name: the mailer is a bundle of its own on Vercel, whose classes are other ones than ours.
 */
export function isSendError(error: unknown): error is SendError {
  return error instanceof Error && error.name === 'SendError';
}

/** Rejects with a `SendError` when the work takes longer than that. */
export async function withinSeconds<T>(
  seconds: number,
  what: string,
  work: Promise<T>,
): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(
      () => reject(new SendError(`${what} gave no answer within ${seconds} s.`)),
      seconds * 1000,
    );
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
