import { readInvoicesOf } from '../checkout/invoicePayments.ts';
import { settleInvoice } from '../checkout/settleInvoice.ts';
import type { SettlementDeps } from '../checkout/settlement.ts';
import type { Effect } from '../credits/effects.ts';

type Grant = Extract<Effect, { kind: 'grant' }>;

/**
 * The grants that a payment is behind without being named by them. Credits written by hand for an
 * invoice (add_subscription_credits) know no payment, since SQL cannot ask Stripe for it. The grant
 * of that invoice with all its identities is a replay, which writes no credits and ties the payment
 * to the entry; what went back is then taken from it. An invoice without an entry is left to its own
 * events, which grant what is left. Errors: `dependency_down`.
 */
export async function grantsBehind(
  deps: SettlementDeps,
  payment: string,
  at: Date,
): Promise<Grant[]> {
  const keys = (await readInvoicesOf(deps.stripe, payment)).map((id) => `invoice:${id}`);
  if (keys.length === 0) return [];
  const { sources } = await deps.db.rpc<{ sources: { key: string }[] }>('reconcile_lookup', {
    p_sources: keys,
  });
  const grants: Grant[] = [];
  for (const { key } of sources) {
    const effects = await settleInvoice(deps, key.slice('invoice:'.length), at);
    for (const effect of effects) {
      if (effect.kind === 'grant' && effect.sources.includes(key)) grants.push(effect);
    }
  }
  return grants;
}
