import type { Database } from '../core/ports.ts';

/** Something operators should know of. One alert is open for each `code` and `subject`. */
export interface Alert {
  /** Stable: `dead_letters`, `livemode_mixed`. */
  code: string;
  /** What it is about, where there can be several: an account, a job. Default: the whole. */
  subject?: string;
  /** Default `warning`. */
  severity?: 'critical' | 'warning';
  /** One line, without a full stop. */
  title: string;
  /** What was seen, and what to do. */
  detail?: string;
  /** Path under PUBLIC_URL, or an absolute address, where one goes on. */
  link?: string;
  /** Told again when so many seconds have passed and it is still raised; 0 = never. Default a day. */
  remindSeconds?: number;
  /** It ends by itself so long after it was last raised. Default: `resolve` ends it. */
  quietSeconds?: number;
}

/** An alert as it is kept. */
export interface AlertRecord {
  id: string;
  code: string;
  subject: string;
  severity: 'critical' | 'warning';
  title: string;
  detail: string;
  link: string | null;
  status: 'open' | 'resolved';
  /** How often it was raised. */
  times: number;
  opened_at: string;
  last_seen_at: string;
  resolved_at: string | null;
}

/**
 * Alerts are rows first and are posted to Slack and Discord by the job `notifications`, so raising
 * one costs a call of the database and waits for nobody. Where neither is set they stay readable.
 */
export interface Alerts {
  /**
   * Notes that something is wrong; to be repeated for as long as it is. `opened`: told now (or,
   * when it comes back within the hour, at its end if it is still open); `seen`: it was open;
   * `reminded`: it was, for so long that it is told again. Errors: `dependency_down`.
   */
  raise(alert: Alert): Promise<{ outcome: 'opened' | 'seen' | 'reminded'; id: string }>;
  /** It is over; told once. `unchanged`: none was open. Idempotent. Errors: `dependency_down`. */
  resolve(code: string, subject?: string): Promise<{ outcome: 'resolved' | 'unchanged' }>;
  /** Open ones first, then the newest. Reads only. */
  list(filter?: { status?: 'open' | 'resolved'; limit?: number }): Promise<AlertRecord[]>;
}

export function createAlerts({ db }: { db: Database }): Alerts {
  return {
    raise: (alert) =>
      db.rpc('raise_alert', {
        p_alert: {
          code: alert.code,
          subject: alert.subject ?? '',
          severity: alert.severity ?? 'warning',
          title: alert.title,
          detail: alert.detail ?? '',
          link: alert.link ?? null,
          remind_seconds: alert.remindSeconds ?? null,
          quiet_seconds: alert.quietSeconds ?? null,
        },
      }),
    resolve: (code, subject = '') => db.rpc('resolve_alert', { p_code: code, p_subject: subject }),
    list: ({ status, limit } = {}) => db.rpc('list_alerts', { p_status: status, p_limit: limit }),
  };
}
