import type { AdminUsers, Audit } from '../admin/admin.types.ts';
import type { Health } from '../admin/health.types.ts';
import type { Checkout } from '../checkout/checkout.types.ts';
import type { Settings } from '../config.ts';
import type { Clock, Logger, RedisStore } from '../core/ports.ts';
import type { Corrections } from '../credits/corrections.types.ts';
import type { Credits } from '../credits/credits.types.ts';
import type { DryRun } from '../credits/dryRun.ts';
import type { Explain } from '../credits/explain.types.ts';
import type { Holds } from '../credits/holds.types.ts';
import type { Payments } from '../credits/payments.ts';
import type { Dunning } from '../dunning/dunning.types.ts';
import type { JobRun, Jobs } from '../jobs/jobs.types.ts';
import type { Alerts } from '../notifications/alerts.ts';
import type { Notifications } from '../notifications/notifications.ts';
import type { Reconcile } from '../reconcile/reconcile.types.ts';
import type { Subscriptions } from '../subscriptions/subscriptions.types.ts';
import type { Claims } from '../webhook/claims.ts';
import type { EventLog } from '../webhook/eventLog.types.ts';
import type { MissedEvents } from '../webhook/missedEvents.ts';
import type { Replays } from '../webhook/replays.ts';
import type { Webhook } from '../webhook/webhook.types.ts';
import type { TokenVerifier } from './identity/tokens.ts';
import type { Lifecycle } from './lifecycle.ts';

/** What each check of `/readyz` asks; each rejects with what is wrong and how to mend it. */
export interface HealthChecks {
  database(): Promise<void>;
  schema(): Promise<void>;
  redis(): Promise<void>;
}

/** The domains whose calls change balances, and have dry runs. */
export interface Money {
  credits: Credits;
  holds: Holds;
  corrections: Corrections;
  payments: Payments;
}

/** Told of each answered request. */
export type RequestObserver = (request: {
  route: string;
  method: string;
  status: number;
  seconds: number;
  /** Mutations in it whose key had been used before. */
  replays: number;
}) => void;

/** Everything the HTTP API is given. It makes nothing of this itself. */
export interface AppDeps extends Money {
  settings: Settings;
  logger: Logger;
  clock: Clock;
  /** Gives every log line of a request its id. */
  requestContext: { run<T>(context: { requestId: string }, work: () => T): T };
  /** Without a slash at the end; a function because a free port is known only after listening. */
  publicUrl: () => string;
  /** Origins pages may submit forms to, beside our own and Stripe's: the sandbox's. */
  formOrigins?: readonly string[];
  health: HealthChecks;
  /** Where limits are counted that all processes keep together. */
  redis: Pick<RedisStore, 'countInWindow'>;
  dryRun: DryRun<Money>;
  credits: Credits;
  explain: Explain;
  holds: Holds;
  checkout: Checkout;
  subscriptions: Subscriptions;
  webhook: Webhook;
  eventLog: EventLog;
  replays: Replays;
  missedEvents: MissedEvents;
  claims: Claims;
  notifications: Notifications;
  alerts: Alerts;
  dunning: Dunning;
  audit: Audit;
  adminUsers: AdminUsers;
  subscriptionHealth: Health;
  reconcile: Reconcile;
  jobs: Jobs & { tick(): Promise<JobRun[]> };
  metrics: { render(): Promise<{ contentType: string; body: string }> };
  /** Told of each answer, with the template of its path: `other` for paths that are no routes. */
  observeRequest?: RequestObserver | undefined;
  catalogue: { cost(feature: string, units: number): number };
  tokens: TokenVerifier;
  lifecycle: Lifecycle;
  /** Folder of the web pages; one without an index.html counts as not built. */
  staticDir?: string | undefined;
}
