import { afterAll, beforeAll, beforeEach } from '@jest/globals';
import type { Database, Json } from '../../src/core/ports.ts';
import type { AlertPoster } from '../../src/notifications/alertChannels.ts';
import { type Alerts, createAlerts } from '../../src/notifications/alerts.ts';
import { createNotifications, type Notifications } from '../../src/notifications/notifications.ts';
import { type SendDeps, type SendReport, sendDue } from '../../src/notifications/sendDue.ts';
import { createPgDatabase } from '../../src/supabase/pgDatabase.ts';
import { testDatabase } from '../support/postgres.ts';
import { callAsService } from '../support/sqlCall.ts';

const silent = { debug() {}, info() {}, warn() {}, error() {} };
export const BRAND = { name: 'Example', publicUrl: 'https://credits.example.com', support: null };

export interface OutboxRow {
  notification_key: string;
  kind: string;
  user_id: string | null;
  status: string;
  attempts: number;
  sent_to: string | null;
  subject: string | null;
  transport: string | null;
  provider_id: string | null;
  error_message: string | null;
  // biome-ignore lint/suspicious/noExplicitAny: compared as JSON
  data: any;
  waits_seconds: number | null;
}

export interface OutboxWorld {
  readonly db: Database;
  readonly alerts: Alerts;
  readonly notifications: Notifications;
  /** A user with that many credits in one lot, and an address unless it is null. */
  user(id: string, credits: number, email?: string | null): Promise<void>;
  enqueue(message: Record<string, Json>): Promise<string>;
  /** One run of the job. */
  send(deps?: Partial<SendDeps> & { posters?: AlertPoster[] }): Promise<SendReport>;
  /** Everything that waits for its time is due now. */
  letTimePass(): Promise<void>;
  rows(kind?: string): Promise<OutboxRow[]>;
  call: (name: string, args?: Record<string, Json | undefined>) => ReturnType<typeof callAsService>;
  query: ReturnType<typeof testDatabase>['current']['query'];
}

/** The outbox on a real database, empty before each test. */
export function outboxWorld(): OutboxWorld {
  const database = testDatabase();
  let db: Database;
  beforeAll(() => {
    db = createPgDatabase({ connectionString: database.current.connectionString, logger: silent });
  });
  afterAll(() => db.close());
  beforeEach(async () => {
    await database.current.query(
      `begin; set local role purser_ledger; delete from notifications; delete from alerts;
       delete from purser.notice_cursors; reset role; commit`,
    );
  });
  const call: OutboxWorld['call'] = (name, args) => callAsService(database.current, name, args);
  return {
    get db() {
      return db;
    },
    get alerts() {
      return createAlerts({ db });
    },
    get notifications() {
      return createNotifications({ db, brand: () => BRAND });
    },
    async user(id, credits, email = `${id}@example.com`) {
      await call('ensure_user', { p_user_id: id, p_email: email });
      await call('grant_credits', {
        p_user_id: id,
        p_type: 'bonus',
        p_key: `grant:${id}`,
        p_lots: [{ credits }],
      });
    },
    async enqueue(message) {
      const answer = await call('apply_webhook_effects', {
        p_event_id: null,
        p_fence: null,
        p_effects: [{ kind: 'notify', ...message }],
      });
      return answer.results[0].outcome;
    },
    send: (deps = {}) =>
      sendDue(
        {
          db,
          logger: silent,
          random: () => 0.5,
          transport: null,
          posters: [],
          alerts: createAlerts({ db }),
          brand: () => BRAND,
          off: new Set(),
          receiptLinks: async () => ({}),
          ...deps,
        },
        () => false,
      ),
    async letTimePass() {
      await database.current.query(
        `begin; set local role purser_ledger;
         update notifications set next_attempt_at = clock_timestamp() where next_attempt_at is not null;
         update notifications set leased_until = clock_timestamp() where leased_until is not null;
         reset role; commit`,
      );
    },
    rows: (kind) =>
      database.current.query<OutboxRow & Record<string, unknown>>(
        `select *, extract(epoch from next_attempt_at - clock_timestamp())::float as waits_seconds
         from notifications where $1::text is null or kind = $1 order by id`,
        [kind ?? null],
      ),
    call,
    query: (text, values) => database.current.query(text, values),
  };
}
