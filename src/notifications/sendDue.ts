import type { Random } from '../core/backoff.ts';
import type { Database, Json, Logger } from '../core/ports.ts';
import type { AlertMessage, AlertPoster } from './alertChannels.ts';
import type { Alerts } from './alerts.ts';
import { isMailDataError, isNotificationKind, type NotificationKind } from './kinds.ts';
import { loadMailer } from './loadMailer.ts';
import { type Brand, writeMail } from './mailContent.ts';
import { claimMessages, type Ending, finishMessage, type LeasedMessage } from './outbox.ts';
import { mailAddress } from './plainText.ts';
import { isSendError, type MailTransport, SEND_SECONDS_MAX, SendError } from './transport.ts';

/**
 * Waits after failed attempts, in seconds: 9 attempts within 16 hours, so that all of them fall
 * into the day for which Resend knows an idempotency key. After the last the message is dead.
 */
export const SEND_RETRY_SECONDS = [30, 120, 600, 1800, 3600, 7200, 14_400, 28_800] as const;

/** Attempts at a receipt that wait for its links; a receipt without them is better than none. */
const LINK_ATTEMPTS_MAX = 3;
const BATCH_MAX = 10;
/** Longer than a batch can take: its mails go at once, each bounded, after a question to Stripe. */
const LEASE_SECONDS = SEND_SECONDS_MAX * 4 + 60;

export interface SendDeps {
  db: Database;
  logger: Logger;
  random: Random;
  /** Null: mails are kept in the outbox, where people read them. */
  transport: MailTransport | null;
  posters: AlertPoster[];
  alerts: Pick<Alerts, 'raise' | 'resolve'>;
  brand: () => Brand;
  /** Kinds that are switched off. */
  off: ReadonlySet<string>;
  /**
   * Addresses at Stripe of what a receipt is about, for those its data does not hold yet. Rejects
   * when Stripe cannot be asked.
   */
  receiptLinks(data: {
    invoice_id: string | null;
    payment_intent_id: string | null;
  }): Promise<Record<string, string | null>>;
}

export interface SendReport extends Record<string, number> {
  sent: number;
  kept: number;
  failed: number;
  dead: number;
  dropped: number;
}

/**
 * Sends what is due; the job `notifications`. At least once: a message is `sent` after its provider
 * has taken it, so a crash in between sends it again, with the id by which the provider, or the
 * reader's server, can tell. A batch of which nothing went through ends the run: the other side is
 * down, and the rest of the queue keeps its attempts.
 */
export async function sendDue(deps: SendDeps, shouldStop: () => boolean): Promise<SendReport> {
  const report: SendReport = { sent: 0, kept: 0, failed: 0, dead: 0, dropped: 0 };
  await deps.db.rpc('resolve_quiet_alerts');
  const batch = Math.min(BATCH_MAX, deps.transport?.concurrency ?? BATCH_MAX);
  for (;;) {
    if (shouldStop()) break;
    const messages = await claimMessages(deps.db, batch, LEASE_SECONDS);
    if (messages.length === 0) break;
    const outcomes = await Promise.all(messages.map((message) => sendOne(deps, message)));
    for (const outcome of outcomes) {
      if (outcome !== 'stale') report[outcome] = (report[outcome] ?? 0) + 1;
    }
    if (outcomes.every((outcome) => outcome === 'failed' || outcome === 'dead')) break;
  }
  if (report.dead > 0) {
    await deps.alerts.raise({
      code: 'notifications_dead',
      title: 'E-mails could not be sent and were given up',
      detail:
        'See GET /api/admin/notifications?status=dead for the reasons; POST .../:id/retry sends one again.',
      link: '/api/admin/notifications?status=dead',
      quietSeconds: 24 * 3600,
    });
  }
  return report;
}

async function sendOne(deps: SendDeps, message: LeasedMessage) {
  let ending: Ending;
  try {
    ending =
      message.kind === 'alert' ? await postAlert(deps, message) : await sendMail(deps, message);
  } catch (error) {
    ending = failed(deps, message, error);
  }
  const { outcome } = await finishMessage(deps.db, message, ending);
  const fields = { notification: message.key, kind: message.kind, attempt: message.attempt };
  if (outcome === 'failed' || outcome === 'dead') {
    const rest = outcome === 'dead' ? 'given up' : 'tried again later';
    deps.logger.warn(`Notification ${message.id} was not sent (${rest}): ${ending.error}`, fields);
  } else {
    deps.logger.debug(`Notification ${message.id} is ${outcome}`, fields);
  }
  return outcome;
}

function failed(deps: SendDeps, { attempt }: LeasedMessage, error: unknown): Ending {
  const known = isSendError(error);
  const permanent = known ? error.permanent : isMailDataError(error);
  const delay = SEND_RETRY_SECONDS[attempt - 1];
  return {
    outcome: 'failed',
    error: error instanceof Error ? error.message : String(error),
    delaySeconds:
      permanent || delay === undefined
        ? null
        : Math.max(delay * (0.9 + 0.2 * deps.random()), known ? error.retryAfterSeconds : 0),
  };
}

async function sendMail(deps: SendDeps, message: LeasedMessage): Promise<Ending> {
  const { transport, brand, off } = deps;
  const { kind } = message;
  if (!isNotificationKind(kind)) {
    throw new SendError(`There is no mail of kind ${kind}.`, { permanent: true });
  }
  if (off.has(kind)) return { outcome: 'dropped', error: 'mails of this kind are switched off' };
  const to = mailAddress(message.to ?? '');
  if (to === null) {
    throw new SendError('The address is not that of one mailbox.', { permanent: true });
  }
  const links = await linksOf(deps, kind, message);
  const data = { ...message.data, ...links };
  const ending = { subject: writeMail(kind, data, brand()).subject, progress: links };
  // Whoever looks at it has it drawn then.
  if (transport === null) return { ...ending, outcome: 'kept', transport: 'outbox' };
  const { renderMail } = await loadMailer();
  const mail = await renderMail(kind, data, brand());
  try {
    const { providerId } = await transport.send({
      ...mail,
      key: message.key,
      to,
      date: new Date(message.created_at),
    });
    return { ...ending, outcome: 'sent', transport: transport.name, providerId };
  } catch (error) {
    return {
      ...failed(deps, message, error),
      ...ending,
      outcome: 'failed',
      transport: transport.name,
    };
  }
}

/** Asked when the mail is sent, so that no webhook waits for it; kept, so that no attempt differs. */
async function linksOf(
  deps: SendDeps,
  kind: NotificationKind,
  { data, attempt, id }: LeasedMessage,
): Promise<Record<string, Json>> {
  if (kind !== 'purchase_receipt' || typeof data.receipt_url === 'string') return {};
  if (typeof data.invoice_url === 'string') return {};
  const idOf = (value: unknown) => (typeof value === 'string' ? value : null);
  try {
    return await deps.receiptLinks({
      invoice_id: idOf(data.invoice_id),
      payment_intent_id: idOf(data.payment_intent_id),
    });
  } catch (error) {
    if (attempt < LINK_ATTEMPTS_MAX) {
      throw new SendError('Stripe could not be asked for the links of the receipt.', {
        cause: error,
      });
    }
    deps.logger.warn(`Notification ${id} goes without links`, { error });
    return {};
  }
}

/** To every channel that has not had it yet; one that fails does not keep the others from it. */
async function postAlert(deps: SendDeps, message: LeasedMessage): Promise<Ending> {
  const alert = message.data as unknown as AlertMessage & { posted?: string[] };
  const posted = new Set(alert.posted ?? []);
  const wanted = deps.posters.filter(({ channel }) => !posted.has(channel));
  if (deps.posters.length === 0) {
    deps.logger[alert.event === 'recovered' ? 'info' : 'error'](
      `Alert ${alert.code} ${alert.event}: ${alert.title}`,
      { code: alert.code, subject: alert.subject, detail: alert.detail },
    );
    return { outcome: 'kept', transport: 'outbox', subject: alert.title };
  }
  const results = await Promise.allSettled(wanted.map((poster) => poster.post(alert)));
  const failures: unknown[] = [];
  for (const [index, result] of results.entries()) {
    const channel = wanted[index]?.channel;
    if (result.status === 'rejected') failures.push(result.reason);
    else if (channel !== undefined) posted.add(channel);
  }
  const rest = {
    subject: alert.title,
    transport: [...posted].join(', '),
    progress: { posted: [...posted] },
  };
  const failure = failures.find((each) => !(isSendError(each) && each.permanent)) ?? failures[0];
  return failure === undefined
    ? { ...rest, outcome: 'sent' }
    : { ...failed(deps, message, failure), ...rest, outcome: 'failed' };
}
