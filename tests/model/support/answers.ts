/** What the functions of the ledger answer, by the headers of sql/. Times are unix milliseconds. */
import {
  type Account,
  balanceOf,
  countersOf,
  type Entry,
  entryName,
  type Hold,
  type HoldThen,
  heldOf,
  holdName,
  lotName,
} from './books.ts';

export type Answer = Record<string, unknown>;

/** The copy for Redis. It runs out when what can be spent changes by itself. */
export function mirror(account: Account): Answer {
  const expiries = account.lots
    .filter((lot) => lot.remaining > 0 && lot.expiresAt !== null)
    .map((lot) => lot.expiresAt ?? 0);
  const ends = account.holds.filter((hold) => hold.status === 'open').map((hold) => hold.expiresAt);
  // Where everything is held, no lot ends before a hold does.
  const all = balanceOf(account) <= heldOf(account) && ends.length > 0;
  const changes = all ? ends : [...expiries, ...ends];
  return {
    ...countersOf(account),
    suspended: account.suspended,
    valid_until: changes.length === 0 ? null : Math.min(...changes),
  };
}

export const partsAnswer = (account: Account, parts: Entry['parts']) =>
  parts.map((part) => ({ grant_id: lotName(account, part.lot), amount: part.amount }));

export const entryAnswer = (outcome: string, account: Account, entry: Entry): Answer => ({
  outcome,
  transaction_id: entryName(account, entry.number),
  user_id: account.id,
  amount: Math.abs(entry.amount),
  balance: entry.balance,
  held: entry.held,
  available: entry.available,
  version: entry.version,
  lots: partsAnswer(account, entry.parts),
  created_at: entry.at,
});

export const balanceAnswer = (outcome: string, account: Account): Answer => ({
  outcome,
  user_id: account.id,
  ...countersOf(account),
});

function holdState(account: Account, hold: Hold, then: HoldThen): Answer {
  const left = hold.amount - then.captured;
  return {
    hold_id: holdName(account, hold.place),
    user_id: account.id,
    status: then.status,
    amount: hold.amount,
    captured: then.captured,
    released: then.status === 'open' ? 0 : left,
    remaining: then.status === 'open' ? left : 0,
    expires_at: then.expiresAt,
  };
}

export const holdAnswer = (
  outcome: string,
  account: Account,
  hold: Hold,
  then: HoldThen = hold,
): Answer => ({
  ...holdState(account, hold, then),
  ...balanceAnswer(outcome, account),
  transaction_id: null,
  mirror: mirror(account),
});

export const captureAnswer = (
  outcome: string,
  account: Account,
  hold: Hold,
  entry: Entry,
): Answer => ({
  ...holdState(account, hold, entry.hold ?? hold),
  outcome,
  transaction_id: entryName(account, entry.number),
  balance: entry.balance,
  held: entry.held,
  available: entry.available,
  version: entry.version,
  mirror: mirror(account),
});
