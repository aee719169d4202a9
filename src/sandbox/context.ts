import type { Row } from './journal.ts';
import type { View } from './json.ts';
import type { Collection, Store } from './store.ts';

/** The one API version the sandbox speaks: the version stripe-node 23.1 pins. */
export const API_VERSION = '2026-10-28.endive';

/** What every handler is given. All of it is injected, so tests decide time and ids. */
export interface Context {
  readonly store: Store;
  /** Milliseconds. The clock of the simulated account, not of the network. */
  readonly now: () => number;
  /** Not used before in this sandbox: `prefix`, then `length` letters and digits (default 24). */
  readonly newId: (prefix: string, length?: number) => string;
  /** Where the sandbox is served, e.g. `http://127.0.0.1:4010`. */
  readonly origin: () => string;
  /** How long a bank debit takes to settle. Milliseconds. */
  readonly settleDelayMs: number;
  /** The API request being answered; null when something else acts (the buyer, the clock). */
  readonly request: { readonly id: string; readonly idempotency_key: string | null } | null;
}

/** Stripe's unit of time. */
export function seconds(ctx: Context): number {
  return Math.floor(ctx.now() / 1_000);
}

/** Adds a row; the id of the view is the id of the row. */
export function add<V extends View, H>(
  ctx: Context,
  into: Collection<V, H>,
  view: NoInfer<V>,
  hidden: NoInfer<H>,
): Row<V, H> {
  return ctx.store.put(into, { id: view.id, view, hidden });
}
