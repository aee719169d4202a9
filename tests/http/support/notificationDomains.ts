import type { AppDeps } from '../../../src/api/deps.ts';
import type { NotificationRecord } from '../../../src/notifications/notifications.ts';

const message: NotificationRecord = {
  id: '7',
  key: 'receipt:cs_1',
  kind: 'purchase_receipt',
  user_id: 'u1',
  to: 'u1@example.com',
  subject: 'Your receipt',
  status: 'sent',
  attempts: 1,
  transport: 'smtp',
  provider_id: null,
  error: null,
  next_attempt_at: null,
  sent_at: '2026-11-21T10:00:00.000Z',
  forgotten_at: null,
  created_at: '2026-11-21T10:00:00.000Z',
};
const mail = { subject: 'Your receipt', html: '<p>Hello</p>', text: 'Hello' };

/** The outbox and the alerts as the HTTP tests see them: every call is recorded. */
export function notificationDomains(
  record: (name: string, ...args: unknown[]) => void,
): Pick<AppDeps, 'notifications' | 'alerts'> {
  return {
    notifications: {
      samples: ['low_balance'],
      async list(filter) {
        record('listNotifications', filter);
        return { data: [message], has_more: false, next_cursor: null };
      },
      async get(id) {
        record('getNotification', id);
        return { ...message, data: { credits: 50 }, mail, problem: null };
      },
      async retry(id, actor) {
        record('retryNotification', id, actor);
        return { ...message, status: 'queued' };
      },
      async sample(name) {
        record('sampleMail', name);
        return mail;
      },
    },
    alerts: {
      async raise(alert) {
        record('raiseAlert', alert);
        return { outcome: 'opened', id: '1' };
      },
      async resolve(code, subject) {
        record('resolveAlert', code, subject);
        return { outcome: 'resolved' };
      },
      async list(filter) {
        record('listAlerts', filter);
        return [
          {
            id: '1',
            code: 'livemode_mixed',
            subject: 'live',
            severity: 'critical',
            title: 'Stripe sends live events to the wrong endpoint',
            detail: '',
            link: null,
            status: 'open',
            times: 2,
            opened_at: '2026-11-21T10:00:00.000Z',
            last_seen_at: '2026-11-21T10:00:00.000Z',
            resolved_at: null,
          },
        ];
      },
    },
  };
}
