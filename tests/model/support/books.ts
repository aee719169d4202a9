/**
 * The model's books: what the ledger is by its rules, kept in memory. Written from the rules of
 * docs/decisions and the headers of sql/, never from the statements there: a balance is not
 * counted but is what the lots hold less the debt, what is held is what open holds reserve.
 */
export interface Lot {
  readonly place: number;
  /** Number of the entry that made it. */
  readonly entry: number;
  readonly amount: number;
  remaining: number;
  readonly priority: number;
  /** Unix milliseconds; null = never. */
  readonly expiresAt: number | null;
  readonly paid: boolean;
  readonly fromPlan: boolean;
}

/** Credits of one lot, by its place among the lots of the user. */
export interface Part {
  lot: number;
  amount: number;
}

export interface Entry {
  readonly number: number;
  readonly type: string;
  readonly amount: number;
  readonly balance: number;
  readonly held: number;
  readonly available: number;
  readonly version: number;
  readonly key: string;
  readonly parts: readonly Part[];
  readonly reverses: number | null;
  readonly at: number;
  /** Of a capture: the hold as it left it. */
  readonly hold?: HoldThen;
}

export interface HoldThen {
  status: HoldStatus;
  captured: number;
  expiresAt: number;
}

type HoldStatus = 'open' | 'captured' | 'released' | 'expired';

export interface Hold extends HoldThen {
  readonly place: number;
  readonly key: string;
  readonly amount: number;
  /** Made while the account was suspended: it reserves no credits of a plan. */
  readonly whileSuspended: boolean;
  readonly first: { expiresAt: number } & Counters;
}

export interface Counters {
  balance: number;
  held: number;
  available: number;
  version: number;
}

export interface Account {
  readonly id: string;
  /** False while the row of the user is deleted; the book stays. */
  open: boolean;
  suspended: boolean;
  version: number;
  debt: number;
  readonly entries: Entry[];
  readonly lots: Lot[];
  readonly holds: Hold[];
}

export interface Payment {
  user: string | null;
  entry: number | null;
  currency: string | null;
  paid: number;
  refunded: number;
  disputed: number;
  status: string | null;
  version: number;
}

export interface Books {
  readonly accounts: Map<string, Account>;
  /** Who was credited for a Stripe object. */
  readonly sources: Map<string, { user: string; entry: number }>;
  readonly payments: Map<string, Payment>;
  /** Times each finding was seen, by "<code> <subject>". */
  readonly findings: Map<string, number>;
  /** "<actor> <action> <user>", in order. */
  readonly audit: string[];
  /** When accounts return: their trigger goes by the database's clock, as nobody can tell it the time. */
  readonly wall: number;
}

export const newBooks = (wall: number): Books => ({
  accounts: new Map(),
  sources: new Map(),
  payments: new Map(),
  findings: new Map(),
  audit: [],
  wall,
});

export const newAccount = (id: string): Account => ({
  id,
  open: true,
  suspended: false,
  version: 0,
  debt: 0,
  entries: [],
  lots: [],
  holds: [],
});

export const DAY = 86_400_000;

export const sum = (numbers: readonly number[]) => numbers.reduce((total, n) => total + n, 0);
export const total = (parts: readonly Part[]) => sum(parts.map((part) => part.amount));

export const balanceOf = (account: Account) =>
  sum(account.lots.map((lot) => lot.remaining)) - account.debt;

export const heldOf = (account: Account) =>
  sum(
    account.holds
      .filter((hold) => hold.status === 'open')
      .map((hold) => hold.amount - hold.captured),
  );

/** Balance less what is held; while suspended, less what is left of plan lots. */
export const availableOf = (account: Account) =>
  balanceOf(account) -
  heldOf(account) -
  (account.suspended
    ? sum(account.lots.filter((lot) => lot.fromPlan).map((lot) => lot.remaining))
    : 0);

export const countersOf = (account: Account): Counters => ({
  balance: balanceOf(account),
  held: heldOf(account),
  available: availableOf(account),
  version: account.version,
});

const NEVER = Number.POSITIVE_INFINITY;

/** The burn-down order: priority, expiry (none last), free before paid, age. */
function burnDown(account: Account): Lot[] {
  return account.lots
    .filter((lot) => lot.remaining > 0)
    .sort(
      (a, b) =>
        a.priority - b.priority ||
        // Two that never expire are NaN apart, which counts as equal.
        (a.expiresAt ?? NEVER) - (b.expiresAt ?? NEVER) ||
        Number(a.paid) - Number(b.paid) ||
        a.place - b.place,
    );
}

/** Takes what there is, up to `wanted`, from the lots that `from` lets. */
export function take(account: Account, wanted: number, from: (lot: Lot) => boolean): Part[] {
  const parts: Part[] = [];
  let left = wanted;
  for (const lot of burnDown(account).filter(from)) {
    const amount = Math.min(lot.remaining, left);
    if (amount === 0) break;
    lot.remaining -= amount;
    left -= amount;
    parts.push({ lot: lot.place, amount });
  }
  return parts;
}

export const anyLot = () => true;
/** What may be spent: not the lots of a plan while suspended. */
export const spendable = (account: Account) => (lot: Lot) => !(account.suspended && lot.fromPlan);

export function addLot(
  account: Account,
  lot: Omit<Lot, 'place' | 'remaining'> & { remaining?: number },
): Lot {
  const made = { remaining: lot.amount, ...lot, place: account.lots.length };
  account.lots.push(made);
  return made;
}

/** Writes an entry about a change of lots, debt and holds that is already made. */
export function append(
  account: Account,
  at: number,
  entry: { type: string; amount: number; key: string; parts: Part[] } & Partial<
    Pick<Entry, 'reverses' | 'hold'>
  >,
): Entry {
  const before = account.entries.at(-1)?.balance ?? 0;
  if (balanceOf(account) !== before + entry.amount) {
    throw new Error(
      `The model's lots moved by ${balanceOf(account) - before}, its entry says ${entry.amount}.`,
    );
  }
  account.version += 1;
  const made = {
    ...entry,
    ...countersOf(account),
    reverses: entry.reverses ?? null,
    number: account.entries.length + 1,
    at,
  };
  account.entries.push(made);
  return made;
}

/**
 * Takes what is due: first holds whose time has come end, then lots expire, the earliest first,
 * but for what open holds still need.
 */
export function expireDue(account: Account, now: number): void {
  const ended = account.holds.filter((hold) => hold.status === 'open' && hold.expiresAt <= now);
  for (const hold of ended) hold.status = 'expired';
  if (ended.length > 0) account.version += 1;
  const due = dueLots(account, now).sort(
    (a, b) => (a.expiresAt ?? 0) - (b.expiresAt ?? 0) || a.place - b.place,
  );
  for (const lot of due) {
    const amount = Math.min(lot.remaining, balanceOf(account) - heldOf(account));
    if (amount <= 0) return;
    lot.remaining -= amount;
    append(account, now, {
      type: 'expiration',
      amount: -amount,
      key: `expire:${lotName(account, lot.place)}:${account.entries.length + 1}`,
      parts: [{ lot: lot.place, amount }],
    });
  }
}

const dueLots = (account: Account, now: number) =>
  account.lots.filter((lot) => lot.remaining > 0 && lot.expiresAt !== null && lot.expiresAt <= now);

/** True where a run of expire-credits finds something to do. */
export const somethingDue = (account: Account, now: number) =>
  account.holds.some((hold) => hold.status === 'open' && hold.expiresAt <= now) ||
  (dueLots(account, now).length > 0 && balanceOf(account) > heldOf(account));

/** Names for what the database numbers by itself. */
export const entryName = (account: Account, number: number) => `${account.id}#${number}`;
export const lotName = (account: Account, place: number) => `${account.id}/L${place}`;
export const holdName = (account: Account, place: number) => `${account.id}/H${place}`;
