import type { Context } from '../context.ts';
import { expand } from '../params.ts';
import { type Route, route } from '../route.ts';
import { balances } from '../tables.ts';

/** The one account there is; enough to check a key with. */
const ACCOUNT = {
  id: 'acct_sandbox',
  object: 'account',
  business_type: null,
  charges_enabled: true,
  country: 'US',
  default_currency: 'usd',
  details_submitted: true,
  email: 'sandbox@example.com',
  metadata: {},
  payouts_enabled: false,
  type: 'standard',
};

/** All that came in is available at once: the sandbox has no payouts and no fees. */
function balance(ctx: Context) {
  const amounts = new Map<string, number>([['usd', 0]]);
  for (const { id, view } of ctx.store.walk(balances, 'oldest_first')) amounts.set(id, view.amount);
  const available = [...amounts].map(([currency, amount]) => ({
    amount,
    currency,
    source_types: { card: amount },
  }));
  const pending = available.map(({ currency }) => ({
    amount: 0,
    currency,
    source_types: { card: 0 },
  }));
  return { object: 'balance', available, livemode: false, pending };
}

export const accountRoutes: Route[] = [
  route('GET', '/v1/account', { expand }, () => ACCOUNT),
  route('GET', '/v1/balance', { expand }, (ctx) => balance(ctx)),
];
