/** The model's rules for spends, their batches, and holds. */
import {
  type Answer,
  balanceAnswer,
  captureAnswer,
  entryAnswer,
  holdAnswer,
  mirror,
} from './answers.ts';
import {
  type Account,
  anyLot,
  append,
  availableOf,
  type Books,
  balanceOf,
  countersOf,
  expireDue,
  type Hold,
  heldOf,
  holdName,
  spendable,
  take,
  total,
} from './books.ts';

export const INVALID = { error: 'PT400' };
const isAmount = (amount: number) => Number.isSafeInteger(amount) && amount >= 1;

export interface Operation {
  user_id: string;
  amount: number;
  idempotency_key: string;
}

/** The account of a user who has a row. */
export function openAccount(books: Books, user: string): Account | undefined {
  const account = books.accounts.get(user);
  return account?.open ? account : undefined;
}

/** suspended: it would have passed without the suspension. */
const refusal = (account: Account, amount: number) =>
  balanceOf(account) - heldOf(account) >= amount ? 'suspended' : 'insufficient_credits';

function spend(account: Account, amount: number, key: string, now: number): Answer {
  const known = account.entries.find((entry) => entry.key === `consume:${key}`);
  if (known !== undefined) {
    return entryAnswer(known.amount === -amount ? 'replayed' : 'conflict', account, known);
  }
  if (availableOf(account) < amount) return balanceAnswer(refusal(account, amount), account);
  const parts = take(account, amount, spendable(account));
  const entry = append(account, now, {
    type: 'usage',
    amount: -amount,
    key: `consume:${key}`,
    parts,
  });
  expireDue(account, now);
  return entryAnswer('applied', account, entry);
}

export function consume(
  books: Books,
  now: number,
  { p_user_id: user, p_amount: amount, p_key: key }: ConsumeArgs,
): Answer {
  if (!isAmount(amount)) return INVALID;
  const account = openAccount(books, user);
  if (account === undefined) return { outcome: 'not_found', user_id: user };
  expireDue(account, now);
  const answer = spend(account, amount, key, now);
  return { ...answer, mirror: mirror(account) };
}

export interface ConsumeArgs {
  p_user_id: string;
  p_amount: number;
  p_key: string;
}

/** Each operation is judged by itself, those of one user in the order given. */
export function consumeBatch(books: Books, now: number, operations: readonly Operation[]): Answer {
  if (!operations.every((operation) => isAmount(operation.amount))) return INVALID;
  const touched = new Map<string, Account>();
  const results = operations.map(({ user_id, amount, idempotency_key }, index) => {
    const account = openAccount(books, user_id);
    if (account === undefined) return { outcome: 'not_found', user_id, index, idempotency_key };
    if (!touched.has(user_id)) expireDue(account, now);
    touched.set(user_id, account);
    return { ...spend(account, amount, idempotency_key, now), index, idempotency_key };
  });
  const mirrors = [...touched.values()]
    .sort((a, b) => (a.id < b.id ? -1 : 1))
    .map((account) => ({ user_id: account.id, ...mirror(account) }));
  return { results, mirrors };
}

export interface HoldArgs {
  p_user_id: string;
  p_amount: number;
  p_key: string;
  p_expires_in_seconds: number;
}

export function hold(books: Books, now: number, args: HoldArgs): Answer {
  if (!isAmount(args.p_amount)) return INVALID;
  const account = openAccount(books, args.p_user_id);
  if (account === undefined) return { outcome: 'not_found', user_id: args.p_user_id };
  expireDue(account, now);
  const key = `hold:${args.p_key}`;
  const known = account.holds.find((one) => one.key === key);
  if (known !== undefined && known.amount !== args.p_amount) {
    return holdAnswer('conflict', account, known);
  }
  if (known !== undefined) {
    const { expiresAt, ...counters } = known.first;
    const then = { status: 'open' as const, captured: 0, expiresAt };
    return { ...holdAnswer('replayed', account, known, then), ...counters };
  }
  if (availableOf(account) < args.p_amount) {
    return {
      ...balanceAnswer(refusal(account, args.p_amount), account),
      mirror: mirror(account),
    };
  }
  const expiresAt = now + args.p_expires_in_seconds * 1000;
  account.version += 1;
  const counters = countersOf(account);
  const made: Hold = {
    place: account.holds.length,
    key,
    amount: args.p_amount,
    captured: 0,
    status: 'open',
    expiresAt,
    whileSuspended: account.suspended,
    first: {
      ...counters,
      held: counters.held + args.p_amount,
      available: counters.available - args.p_amount,
      expiresAt,
    },
  };
  account.holds.push(made);
  return holdAnswer('applied', account, made);
}

/** A hold by the name of its user and its key: the caller has its id. */
export interface HoldName {
  $hold: [user: string, key: string];
}

/** The hold, with its account brought up to date; or the answer when there is none to be had. */
function findHold(
  books: Books,
  now: number,
  { $hold: [user, key] }: HoldName,
): { account: Account; found: Hold } | { answer: Answer } {
  const account = books.accounts.get(user);
  const found = account?.holds.find((one) => one.key === key);
  if (account === undefined || found === undefined) throw new Error('The model has no such hold.');
  const hold_id = holdName(account, found.place);
  if (!account.open) return { answer: { outcome: 'not_found', hold_id, user_id: account.id } };
  expireDue(account, now);
  return { account, found };
}

export interface CaptureArgs {
  p_hold_id: HoldName;
  p_key: string;
  p_amount: number | null;
}

export function capture(books: Books, now: number, args: CaptureArgs): Answer {
  if (args.p_amount !== null && !isAmount(args.p_amount)) return INVALID;
  const looked = findHold(books, now, args.p_hold_id);
  if ('answer' in looked) return looked.answer;
  const { account, found } = looked;
  const left = found.amount - found.captured;
  const amount = args.p_amount ?? left;

  const key = `capture:${holdName(account, found.place)}:${args.p_key}`;
  const known = account.entries.find((entry) => entry.key === key);
  if (known !== undefined) {
    const same =
      args.p_amount === null
        ? known.hold?.captured === found.amount
        : known.amount === -args.p_amount;
    return same
      ? captureAnswer('replayed', account, found, known)
      : holdAnswer('conflict', account, found);
  }
  const late = found.status === 'expired';
  if (found.status === 'captured' || found.status === 'released') {
    return holdAnswer('hold_ended', account, found);
  }
  if (amount > left) return holdAnswer('hold_exceeded', account, found);
  if (late && availableOf(account) < amount) {
    return holdAnswer(refusal(account, amount), account, found);
  }
  if (balanceOf(account) < amount) return holdAnswer('insufficient_credits', account, found);

  found.captured += amount;
  if (found.captured === found.amount) found.status = 'captured';
  // What an open hold promised is kept whatever the account has become, but a hold made while
  // suspended reaches for plan lots last.
  const allowed = late || found.whileSuspended ? spendable(account) : anyLot;
  const parts = take(account, amount, allowed);
  if (!late) parts.push(...take(account, amount - total(parts), anyLot));
  const { status, captured, expiresAt } = found;
  const entry = append(account, now, {
    type: 'usage',
    amount: -amount,
    key,
    parts,
    hold: { status, captured, expiresAt },
  });
  expireDue(account, now);
  return captureAnswer('applied', account, found, entry);
}

export function release(books: Books, now: number, args: { p_hold_id: HoldName }): Answer {
  const looked = findHold(books, now, args.p_hold_id);
  if ('answer' in looked) return looked.answer;
  const { account, found } = looked;
  if (found.status !== 'open') return holdAnswer('unchanged', account, found);
  found.status = 'released';
  account.version += 1;
  expireDue(account, now);
  return holdAnswer('applied', account, found);
}

export function extend(
  books: Books,
  now: number,
  args: { p_hold_id: HoldName; p_expires_in_seconds: number },
): Answer {
  const looked = findHold(books, now, args.p_hold_id);
  if ('answer' in looked) return looked.answer;
  const { account, found } = looked;
  if (found.status !== 'open') return holdAnswer('hold_ended', account, found);
  const expiresAt = now + args.p_expires_in_seconds * 1000;
  if (expiresAt <= found.expiresAt) return holdAnswer('unchanged', account, found);
  found.expiresAt = expiresAt;
  account.version += 1;
  return holdAnswer('applied', account, found);
}
