import { apiFaults } from './apiFaults.ts';
import { API_VERSION, type Context, seconds } from './context.ts';
import type { ControlRoute } from './controlRoute.ts';
import { currentFaults } from './faults.ts';
import {
  balances,
  charges,
  customers,
  deliveries,
  disputes,
  events,
  invoices,
  prices,
  refunds,
  subscriptions,
  webhookEndpoints,
} from './tables.ts';

/** How things stand in the sandbox, in one answer. */
export interface SandboxStatus {
  readonly origin: string;
  readonly api_version: string;
  /** Seconds of the account's clock, and the same for people. */
  readonly now: number;
  readonly now_iso: string;
  /** By currency, in its smallest unit. */
  readonly balance: Readonly<Record<string, number>>;
  readonly objects: Readonly<Record<string, number>>;
  readonly endpoints: readonly { id: string; url: string; api_version: string; payload: string }[];
  /** Kept deliveries by state. */
  readonly deliveries: Readonly<Record<string, number>>;
  readonly faults: readonly object[];
  readonly api_faults: readonly object[];
}

const COUNTED: Readonly<Record<string, (ctx: Context) => number>> = {
  prices: ({ store }) => store.size(prices),
  customers: ({ store }) => store.size(customers),
  charges: ({ store }) => store.size(charges),
  refunds: ({ store }) => store.size(refunds),
  disputes: ({ store }) => store.size(disputes),
  invoices: ({ store }) => store.size(invoices),
  subscriptions: ({ store }) => store.size(subscriptions),
  events: ({ store }) => store.size(events),
};

function statusOf(ctx: Context): SandboxStatus {
  const states: Record<string, number> = {};
  for (const { view } of ctx.store.walk(deliveries, 'oldest_first')) {
    states[view.status] = (states[view.status] ?? 0) + 1;
  }
  return {
    origin: ctx.origin(),
    api_version: API_VERSION,
    now: seconds(ctx),
    now_iso: new Date(ctx.now()).toISOString(),
    balance: Object.fromEntries(
      [...ctx.store.walk(balances, 'oldest_first')].map(({ id, view }) => [id, view.amount]),
    ),
    objects: Object.fromEntries(Object.entries(COUNTED).map(([name, count]) => [name, count(ctx)])),
    endpoints: [...ctx.store.walk(webhookEndpoints, 'oldest_first')].map(
      ({ id, view, hidden }) => ({
        id,
        url: view.url,
        api_version: view.api_version ?? API_VERSION,
        payload: hidden.payload ?? 'snapshot',
      }),
    ),
    deliveries: states,
    faults: currentFaults(ctx),
    api_faults: apiFaults(ctx),
  };
}

export const statusControl: readonly ControlRoute[] = [
  { method: 'GET', pattern: /^\/_sandbox\/status$/, run: (ctx) => statusOf(ctx) },
];
