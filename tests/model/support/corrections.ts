/** The model's rules for usage given back, free grants and adjustments by hand. */
import { type Answer, balanceAnswer, entryAnswer, mirror } from './answers.ts';
import {
  anyLot,
  append,
  type Books,
  balanceOf,
  entryName,
  expireDue,
  heldOf,
  sum,
  take,
  total,
} from './books.ts';
import { grant } from './payments.ts';
import { returnToLot, slice } from './returns.ts';
import { INVALID, openAccount } from './spending.ts';

export interface RefundArgs {
  p_user_id: string;
  /** An entry of somebody's, by user and number; the caller has its id. */
  p_transaction_id: { $entry: [user: string, number: number] };
  p_key: string;
  p_amount: number | null;
}

export function refundUsage(books: Books, now: number, args: RefundArgs): Answer {
  if (args.p_amount !== null && args.p_amount < 1) return INVALID;
  const account = openAccount(books, args.p_user_id);
  if (account === undefined) return { outcome: 'not_found', user_id: args.p_user_id };
  expireDue(account, now);
  const key = `refund:${args.p_key}`;
  const known = account.entries.find((entry) => entry.key === key);
  const [owner, number] = args.p_transaction_id.$entry;
  const usage =
    owner === account.id && account.entries[number - 1]?.type === 'usage'
      ? account.entries[number - 1]
      : undefined;
  if (known !== undefined) {
    // No amount stands for what was left when the key was first used.
    const refundedBefore = sum(
      account.entries
        .slice(0, known.number - 1)
        .filter((entry) => entry.reverses === usage?.number && usage !== undefined)
        .map((entry) => entry.amount),
    );
    const asked = args.p_amount ?? (usage === undefined ? 0 : -usage.amount - refundedBefore);
    const same = usage !== undefined && known.reverses === usage.number && known.amount === asked;
    return {
      ...entryAnswer(same ? 'replayed' : 'conflict', account, known),
      mirror: mirror(account),
    };
  }
  if (usage === undefined) {
    const transaction_id = `${owner}#${number}`;
    return {
      ...balanceAnswer('not_found', account),
      transaction_id,
      mirror: mirror(account),
    };
  }
  const refunded = sum(
    account.entries.filter((one) => one.reverses === usage.number).map((one) => one.amount),
  );
  const left = -usage.amount - refunded;
  const amount = args.p_amount ?? left;
  if (amount === 0 || amount > left) {
    return {
      ...balanceAnswer('exceeds_usage', account),
      transaction_id: entryName(account, usage.number),
      left,
      mirror: mirror(account),
    };
  }
  const repaid = Math.min(account.debt, amount);
  account.debt -= repaid;
  // Last taken comes back first; what was given back before, or repays debt, is passed over.
  const back = slice([...usage.parts].reverse(), refunded + repaid, amount - repaid);
  const next = account.entries.length + 1;
  const parts = back.flatMap((part) => returnToLot(account, part.lot, part.amount, next, now));
  const entry = append(account, now, {
    type: 'usage_refund',
    amount,
    key,
    parts,
    reverses: usage.number,
  });
  expireDue(account, now);
  return {
    ...entryAnswer('applied', account, entry),
    repaid_debt: repaid,
    mirror: mirror(account),
  };
}

export interface FreeArgs {
  p_user_id: string;
  p_amount: number;
  p_type: string;
  p_key: string;
  p_reason: string;
  p_expires_at: number | null;
  p_priority: number | null;
}

export function grantFree(books: Books, now: number, args: FreeArgs): Answer {
  if (args.p_amount < 1) return INVALID;
  const key = `grant:${args.p_key}`;
  const account = openAccount(books, args.p_user_id);
  const over = args.p_expires_at !== null && args.p_expires_at <= now;
  if (over && !account?.entries.some((entry) => entry.key === key)) {
    return { outcome: 'expired', user_id: args.p_user_id };
  }
  return grant(books, now, {
    p_user_id: args.p_user_id,
    p_type: args.p_type,
    p_key: key,
    p_lots: [
      {
        credits: args.p_amount,
        expires_at: args.p_expires_at,
        priority: args.p_priority ?? 100,
        paid: false,
      },
    ],
  });
}

export interface AdjustArgs {
  p_user_id: string;
  p_amount: number;
  p_key: string;
  p_reason: string;
  p_actor: string;
  p_allow_debt: boolean;
}

export function adjust(books: Books, now: number, args: AdjustArgs): Answer {
  if (args.p_amount === 0) return INVALID;
  const account = openAccount(books, args.p_user_id);
  if (account === undefined) return { outcome: 'not_found', user_id: args.p_user_id };
  expireDue(account, now);
  const key = `adjust:${args.p_key}`;
  const known = account.entries.find((entry) => entry.key === key);
  if (known !== undefined) {
    return {
      ...entryAnswer(known.amount === args.p_amount ? 'replayed' : 'conflict', account, known),
      mirror: mirror(account),
    };
  }
  const done = `${args.p_actor} adjust_credits ${account.id}`;
  if (args.p_amount > 0) {
    const lots = [{ credits: args.p_amount, paid: false }];
    const { p_user_id } = args;
    const given = { p_user_id, p_type: 'adjustment', p_key: key, p_lots: lots };
    const answer = grant(books, now, given);
    books.audit.push(done);
    return answer;
  }
  const wanted = -args.p_amount;
  const free = balanceOf(account) - heldOf(account);
  if (free < wanted && !args.p_allow_debt) {
    return {
      ...balanceAnswer('insufficient_credits', account),
      available: free,
      mirror: mirror(account),
    };
  }
  // A suspension stops spending, not corrections.
  const parts = take(account, wanted, anyLot);
  account.debt += wanted - total(parts);
  const entry = append(account, now, { type: 'adjustment', amount: args.p_amount, key, parts });
  expireDue(account, now);
  books.audit.push(done);
  return { ...entryAnswer('applied', account, entry), mirror: mirror(account) };
}
