/** How credits come back to lots: the same for usage given back and claw-backs reversed. */
import { type Account, addLot, DAY, type Part } from './books.ts';

/**
 * Puts credits into a lot as far as it lives and has room. The rest becomes a free lot like it, of
 * 7 days where it has expired.
 */
export function returnToLot(
  account: Account,
  place: number,
  amount: number,
  entry: number,
  now: number,
): Part[] {
  const lot = account.lots[place];
  if (lot === undefined) throw new Error(`The model has no lot ${place}.`);
  const expired = lot.expiresAt !== null && lot.expiresAt <= now;
  const fits = expired ? 0 : Math.min(lot.amount - lot.remaining, amount);
  lot.remaining += fits;
  const parts = fits > 0 ? [{ lot: place, amount: fits }] : [];
  if (fits < amount) {
    const bonus = addLot(account, {
      entry,
      amount: amount - fits,
      priority: lot.priority,
      expiresAt: expired ? now + 7 * DAY : lot.expiresAt,
      paid: false,
      fromPlan: lot.fromPlan,
    });
    parts.push({ lot: bonus.place, amount: amount - fits });
  }
  return parts;
}

/** The parts with the first `skip` credits left out, and no more than `wanted` of the rest. */
export function slice(parts: readonly Part[], skip: number, wanted: number): Part[] {
  const found: Part[] = [];
  let passed = 0;
  for (const part of parts) {
    const from = Math.max(passed, skip);
    const to = Math.min(passed + part.amount, skip + wanted);
    if (to > from) found.push({ lot: part.lot, amount: to - from });
    passed += part.amount;
  }
  return found;
}
