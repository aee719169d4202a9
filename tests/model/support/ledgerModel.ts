/** The whole model: a request in, the answer that the ledger must give out. */
import { type Answer, balanceAnswer, mirror } from './answers.ts';
import {
  type Account,
  type Books,
  balanceOf,
  expireDue,
  heldOf,
  lotName,
  newAccount,
  somethingDue,
} from './books.ts';
import {
  type AdjustArgs,
  adjust,
  type FreeArgs,
  grantFree,
  type RefundArgs,
  refundUsage,
} from './corrections.ts';
import {
  type GrantArgs,
  grant,
  type PaymentArgs,
  returnAccount,
  setPaymentState,
} from './payments.ts';
import {
  type CaptureArgs,
  type ConsumeArgs,
  capture,
  consume,
  consumeBatch,
  extend,
  type HoldArgs,
  type HoldName,
  hold,
  type Operation,
  openAccount,
  release,
} from './spending.ts';

/** A call of a function of sql/ by named arguments; names that begin with $ are plain statements. */
export type Request =
  | { name: 'grant_credits'; args: GrantArgs }
  | { name: 'grant_free_credits'; args: FreeArgs }
  | { name: 'consume_credits'; args: ConsumeArgs }
  | { name: 'consume_credits_batch'; args: { p_operations: Operation[] } }
  | { name: 'hold_credits'; args: HoldArgs }
  | { name: 'capture_hold'; args: CaptureArgs }
  | { name: 'release_hold'; args: { p_hold_id: HoldName } }
  | { name: 'extend_hold'; args: { p_hold_id: HoldName; p_expires_in_seconds: number } }
  | { name: 'refund_usage'; args: RefundArgs }
  | { name: 'adjust_credits'; args: AdjustArgs }
  | { name: 'set_payment_state'; args: PaymentArgs }
  | { name: 'get_credit_balance'; args: { p_user_id: string } }
  | { name: 'expire_due_credits'; args: Record<string, never> }
  | { name: 'sync_user_credits'; args: { p_user_id: string } }
  | { name: '$suspend'; args: { user: string; suspended: boolean } }
  | { name: '$delete' | '$insert'; args: { user: string } };

export function answerOf(books: Books, now: number, request: Request): Answer {
  switch (request.name) {
    case 'grant_credits':
      return grant(books, now, request.args);
    case 'grant_free_credits':
      return grantFree(books, now, request.args);
    case 'consume_credits':
      return consume(books, now, request.args);
    case 'consume_credits_batch':
      return consumeBatch(books, now, request.args.p_operations);
    case 'hold_credits':
      return hold(books, now, request.args);
    case 'capture_hold':
      return capture(books, now, request.args);
    case 'release_hold':
      return release(books, now, request.args);
    case 'extend_hold':
      return extend(books, now, request.args);
    case 'refund_usage':
      return refundUsage(books, now, request.args);
    case 'adjust_credits':
      return adjust(books, now, request.args);
    case 'set_payment_state':
      return setPaymentState(books, now, request.args);
    case 'get_credit_balance':
      return balance(books, now, request.args.p_user_id);
    case 'expire_due_credits':
      return expireAll(books, now);
    case 'sync_user_credits':
      return sync(books, request.args.p_user_id);
    case '$suspend':
      return suspend(books, request.args);
    case '$delete':
      return remove(books, request.args.user);
    case '$insert':
      return insert(books, request.args.user);
  }
}

const EXPIRING_SHOWN = 20;

function balance(books: Books, now: number, user: string): Answer {
  const account = openAccount(books, user);
  if (account === undefined) return { outcome: 'not_found', user_id: user };
  expireDue(account, now);
  const expiring = account.lots
    .filter((lot) => lot.remaining > 0 && lot.expiresAt !== null)
    .sort((a, b) => (a.expiresAt ?? 0) - (b.expiresAt ?? 0) || a.place - b.place)
    .slice(0, EXPIRING_SHOWN)
    .map((lot) => ({
      grant_id: lotName(account, lot.place),
      credits: lot.remaining,
      expires_at: lot.expiresAt,
    }));
  return {
    ...balanceAnswer('found', account),
    debt: account.debt,
    plan: 'free',
    expiring,
    as_of: now,
    mirror: mirror(account),
  };
}

function expireAll(books: Books, now: number): Answer {
  const due = [...books.accounts.values()].filter(
    (account) => account.open && somethingDue(account, now),
  );
  for (const account of due) expireDue(account, now);
  return { users: due.length, more: false };
}

/** The books follow from the entries at all times: there is never anything to set right. */
function sync(books: Books, user: string): Answer {
  const account = books.accounts.get(user);
  if (account === undefined) return { error: 'PT404' };
  const counters = {
    balance: balanceOf(account),
    held: heldOf(account),
    debt: account.debt,
    entry_count: account.entries.length,
  };
  return {
    user_id: user,
    before: counters,
    after: counters,
    changed: false,
    lots: [],
    remaining_issues: [],
  };
}

function suspend(books: Books, { user, suspended }: { user: string; suspended: boolean }): Answer {
  const account = openAccount(books, user);
  if (account !== undefined && account.suspended !== suspended) {
    account.suspended = suspended;
    account.version += 1;
  }
  return {};
}

function remove(books: Books, user: string): Answer {
  const account = openAccount(books, user);
  if (account !== undefined) {
    account.open = false;
    books.audit.push(`sql account_closed ${user}`);
  }
  return {};
}

function insert(books: Books, user: string): Answer {
  const account: Account | undefined = books.accounts.get(user);
  if (account === undefined) books.accounts.set(user, newAccount(user));
  else if (!account.open) returnAccount(books, account);
  return {};
}
