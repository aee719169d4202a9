import { PurserError } from '../core/errors.ts';
import type { Database } from '../core/ports.ts';
import { isMailDataError, isNotificationKind } from './kinds.ts';
import { loadMailer } from './loadMailer.ts';
import type { Brand } from './mailContent.ts';
import { SAMPLE_MAILS } from './sampleMails.ts';

/** A message of the outbox, as people see it. */
export interface NotificationRecord {
  id: string;
  /** Names the cause. */
  key: string;
  kind: string;
  user_id: string | null;
  /** Null before the first attempt, and once it is forgotten. */
  to: string | null;
  /** Known since the first attempt. */
  subject: string | null;
  status: 'queued' | 'leased' | 'sent' | 'kept' | 'failed' | 'dead' | 'dropped';
  attempts: number;
  transport: string | null;
  provider_id: string | null;
  error: string | null;
  next_attempt_at: string | null;
  sent_at: string | null;
  /** When its address and data were taken out, for its age. */
  forgotten_at: string | null;
  created_at: string;
}

export interface NotificationDetail extends NotificationRecord {
  data: Record<string, unknown>;
  /** Null for alerts, and where the data cannot be rendered: then `problem` says why. */
  mail: { subject: string; html: string; text: string } | null;
  problem: string | null;
}

/** The outbox for operators. */
export interface Notifications {
  /** Newest first. Errors: `invalid_request` for a cursor that is not ours. */
  list(filter: {
    status?: NotificationRecord['status'] | undefined;
    kind?: string | undefined;
    userId?: string | undefined;
    cursor?: string | undefined;
    limit?: number | undefined;
  }): Promise<{ data: NotificationRecord[]; has_more: boolean; next_cursor: string | null }>;
  /** With the mail as it reads. Errors: `not_found`. */
  get(id: string): Promise<NotificationDetail>;
  /** All attempts again; audited. Errors: `not_found`, `in_progress`, `invalid_request` if sent or forgotten. */
  retry(id: string, actor: string): Promise<NotificationRecord>;
  /** Names of the made-up mails of the preview. */
  readonly samples: readonly string[];
  /** One of them. Errors: `not_found`. */
  sample(name: string): Promise<{ subject: string; html: string; text: string }>;
}

export function createNotifications({
  db,
  brand,
}: {
  db: Database;
  brand: () => Brand;
}): Notifications {
  async function find(id: string) {
    const found = await db.rpc<{
      outcome: 'found' | 'not_found';
      notification: NotificationRecord;
      data: Record<string, unknown>;
    }>('get_notification', { p_id: id });
    if (found.outcome === 'not_found') throw unknown(id);
    return found;
  }

  async function render(kind: string, data: unknown) {
    if (!isNotificationKind(kind)) return { mail: null, problem: null };
    const { renderMail } = await loadMailer();
    try {
      return { mail: await renderMail(kind, data, brand()), problem: null };
    } catch (error) {
      if (!isMailDataError(error)) throw error;
      return { mail: null, problem: error.message };
    }
  }

  return {
    async list({ status, kind, userId, cursor, limit }) {
      const page = await db.rpc<{
        data: NotificationRecord[];
        has_more: boolean;
        next_before_id: number | null;
      }>('list_notifications', {
        p_status: status,
        p_kind: kind,
        p_user_id: userId,
        p_before_id: cursor === undefined ? undefined : idOfCursor(cursor),
        p_limit: limit,
      });
      const { next_before_id: next } = page;
      return {
        data: page.data,
        has_more: page.has_more,
        next_cursor: next === null ? null : cursorOfId(next),
      };
    },

    async get(id) {
      const { notification, data } = await find(id);
      const { kind, forgotten_at: at } = notification;
      const drawn =
        at === null
          ? await render(kind, data)
          : { mail: null, problem: `Its address and data were taken out on ${at.slice(0, 10)}.` };
      return { ...notification, data, ...drawn };
    },

    async retry(id, actor) {
      const { outcome } = await db.rpc<{
        outcome: 'queued' | 'not_found' | 'sent' | 'forgotten' | 'leased' | 'unchanged';
      }>('retry_notification', { p_id: id, p_actor: actor });
      switch (outcome) {
        case 'not_found':
          throw unknown(id);
        case 'leased':
          throw new PurserError('in_progress', {
            detail: `Notification ${id} is being sent now. Look again in a minute.`,
          });
        case 'sent':
          throw new PurserError('invalid_request', {
            detail: `Notification ${id} was sent, and nobody gets the same mail twice.`,
          });
        case 'forgotten':
          throw new PurserError('invalid_request', {
            detail: `Notification ${id} is so old that its address and data were taken out. Write to the customer yourself.`,
          });
        case 'queued':
        case 'unchanged':
          return (await find(id)).notification;
      }
    },

    samples: Object.keys(SAMPLE_MAILS),

    async sample(name) {
      const sample = Object.hasOwn(SAMPLE_MAILS, name) ? SAMPLE_MAILS[name] : undefined;
      if (sample === undefined) {
        throw new PurserError('not_found', {
          detail: `There is no sample "${name}". Samples: ${Object.keys(SAMPLE_MAILS).join(', ')}.`,
        });
      }
      const { renderMail } = await loadMailer();
      return renderMail(sample.kind, sample.data, brand());
    },
  };
}

function unknown(id: string): PurserError {
  return new PurserError('not_found', { detail: `There is no notification ${id}.` });
}

function cursorOfId(id: number): string {
  return Buffer.from(JSON.stringify(['notification', id])).toString('base64url');
}

function idOfCursor(cursor: string): number {
  try {
    const [name, id] = JSON.parse(Buffer.from(cursor, 'base64url').toString()) as unknown[];
    if (name === 'notification' && typeof id === 'number' && Number.isSafeInteger(id)) return id;
  } catch {
    // Falls through to the same message as another list's cursor.
  }
  throw new PurserError('invalid_request', {
    detail: 'cursor is not one of ours; use next_cursor of the page before.',
    extensions: { errors: [{ path: 'cursor', message: 'is not a cursor of this list' }] },
  });
}
