import type { Database, MirrorRecord, RedisStore } from '../core/ports.ts';
import { getMirrorRecords, listMirrorRecords, type UserMirrorRecord } from './ledger.ts';

/** Users a page: one call to each side. */
const PAGE = 500;
/** A copy older than the ledger may be on its way: it is looked at again after this long. */
const ON_ITS_WAY_MS = 3_000;

export interface MirrorCheckDeps {
  db: Database;
  /** The store without the bound on each call: batches take longer. */
  redis: RedisStore;
  nowMs: () => number;
  /** Waits, between the two looks at a copy that is behind. */
  pause: (ms: number) => Promise<unknown>;
}

/** What is wrong with a copy, for a reader who believes it. */
export type MirrorIssue =
  /** An older state, and nobody brings the newer one. */
  | 'behind'
  /** A state the ledger does not have: it was restored, or written by somebody else. */
  | 'ahead'
  /** The state of this version with other numbers: edited. */
  | 'differs'
  /** Of a user who is gone. */
  | 'orphaned';

export type MirrorCheckCounts = Record<'compared' | 'missing' | MirrorIssue, number>;

/** Where a check goes on: first every user's copy, then every copy that belongs to no user. */
export interface MirrorCheckCursor {
  stage: 'users' | 'copies';
  at: string | null;
}

export const MIRROR_CHECK_START: MirrorCheckCursor = { stage: 'users', at: null };
export const noMirrorCounts = (): MirrorCheckCounts => ({
  compared: 0,
  missing: 0,
  behind: 0,
  ahead: 0,
  differs: 0,
  orphaned: 0,
});

export interface Drift {
  userId: string;
  issue: MirrorIssue;
  stored: MirrorRecord | null;
  ledger: UserMirrorRecord | null;
}

/**
 * Compares the next page of copies in Redis with the ledger, field by field, mends those that
 * differ and writes what it found to `reconciliation_findings` (mirror_<issue>, resolved since it
 * is mended). A copy that is not there, or is of another ledger, is no error: a reader asks the
 * ledger. Those are written as well. Adds to `counts`; answers where to go on, null at the end.
 * Repeating a page does no harm.
 */
export async function checkMirrorPage(
  deps: MirrorCheckDeps,
  cursor: MirrorCheckCursor,
  counts: MirrorCheckCounts,
): Promise<MirrorCheckCursor | null> {
  if (cursor.stage === 'users') {
    const { last, complete, records } = await listMirrorRecords(deps.db, cursor.at, PAGE);
    await checkUsers(
      deps,
      records.map(({ user_id }) => user_id),
      counts,
    );
    return complete || last === null ? { stage: 'copies', at: null } : { stage: 'users', at: last };
  }
  const scanned = await deps.redis.scanMirrors(cursor.at);
  await removeOrphans(deps, scanned.copies, counts);
  return scanned.cursor === null ? null : { stage: 'copies', at: scanned.cursor };
}

async function checkUsers(deps: MirrorCheckDeps, userIds: string[], counts: MirrorCheckCounts) {
  counts.compared += userIds.length;
  const found = await findMirrorDrifts(deps, userIds);
  counts.missing += found.missing.length;
  for (const { issue } of found.drifts) counts[issue] += 1;
  await mendMirrors(deps, found);
  await record(deps, found.drifts);
}

export interface MirrorDrifts {
  drifts: Drift[];
  /** No copy, or one that readers pass over; no error. */
  missing: UserMirrorRecord[];
}

/** Compares the copies of these users (at most 1000) with the ledger; writes nothing. */
export async function findMirrorDrifts(
  deps: MirrorCheckDeps,
  userIds: string[],
): Promise<MirrorDrifts> {
  const first = await compare(deps, userIds);
  const doubtful = first.drifts.filter(({ issue }) => issue === 'behind');
  const drifts = first.drifts.filter(({ issue }) => issue !== 'behind');
  if (doubtful.length === 0) return { drifts, missing: first.missing };
  await deps.pause(ON_ITS_WAY_MS);
  const versions = new Map(doubtful.map(({ userId, stored }) => [userId, stored?.version]));
  const second = await compare(deps, [...versions.keys()]);
  // One that has moved since is followed, if late; one that has not is left behind.
  const behind = second.drifts.filter(
    ({ userId, issue, stored }) => issue !== 'behind' || stored?.version === versions.get(userId),
  );
  return { drifts: [...drifts, ...behind], missing: first.missing };
}

/** Writes the copies that were found to differ, or not found, from the ledger. */
export async function mendMirrors(
  deps: Pick<MirrorCheckDeps, 'redis'>,
  { drifts, missing }: MirrorDrifts,
): Promise<void> {
  await mend(deps, drifts);
  await deps.redis.writeMirrors(missing.map(toCopy));
}

/** Redis is read before the ledger: a copy that is ahead then is of a past that was undone. */
async function compare({ db, redis, nowMs }: MirrorCheckDeps, userIds: string[]) {
  const stored = await redis.readMirrors(userIds);
  const records = new Map(
    (await getMirrorRecords(db, userIds)).map((record) => [record.user_id, record]),
  );
  const drifts: Drift[] = [];
  const missing: UserMirrorRecord[] = [];
  for (const [index, userId] of userIds.entries()) {
    const copy = stored[index] ?? null;
    const ledger = records.get(userId);
    if (ledger === undefined) continue; // deleted meanwhile: the walk over the copies sees to it
    if (copy === null || copy.ledger !== ledger.ledger || hasEnded(copy, nowMs())) {
      missing.push(ledger);
      continue;
    }
    const issue = issueOf(copy, ledger);
    if (issue !== null) drifts.push({ userId, issue, stored: copy, ledger });
  }
  return { drifts, missing };
}

/** Readers take it for a miss, and its numbers are those of before the expiry. */
const hasEnded = ({ valid_until }: MirrorRecord, nowMs: number) =>
  valid_until !== null && valid_until <= nowMs;

function issueOf(copy: MirrorRecord, ledger: MirrorRecord): MirrorIssue | null {
  if (copy.version > ledger.version) return 'ahead';
  if (copy.version < ledger.version) return 'behind';
  const fields = ['balance', 'held', 'available', 'suspended', 'valid_until'] as const;
  return fields.every((field) => copy[field] === ledger[field]) ? null : 'differs';
}

async function mend({ redis }: Pick<MirrorCheckDeps, 'redis'>, drifts: Drift[]): Promise<void> {
  for (const { userId, issue, stored } of drifts) {
    // The newer version is what compare-and-set would keep, so it has to go first.
    if (issue === 'ahead' && stored !== null) await redis.removeMirror(userId, stored);
  }
  await redis.writeMirrors(drifts.flatMap(({ ledger }) => (ledger === null ? [] : toCopy(ledger))));
}

const toCopy = ({ user_id, ...record }: UserMirrorRecord) => ({ userId: user_id, record });

async function removeOrphans(
  deps: MirrorCheckDeps,
  copies: Awaited<ReturnType<RedisStore['scanMirrors']>>['copies'],
  counts: MirrorCheckCounts,
): Promise<void> {
  for (let start = 0; start < copies.length; start += PAGE) {
    const page = copies.slice(start, start + PAGE);
    const users = page.map(({ userId }) => userId);
    const known = new Set((await getMirrorRecords(deps.db, users)).map(({ user_id }) => user_id));
    const drifts: Drift[] = [];
    for (const { userId, seen } of page.filter((copy) => !known.has(copy.userId))) {
      if (seen !== null && (await deps.redis.removeMirror(userId, seen)) === 'stale') continue;
      if (seen === null) await deps.redis.deleteMirror(userId);
      counts.orphaned += 1;
      drifts.push({ userId, issue: 'orphaned', stored: null, ledger: null });
    }
    await record(deps, drifts);
  }
}

async function record({ db }: MirrorCheckDeps, drifts: Drift[]): Promise<void> {
  if (drifts.length === 0) return;
  await db.rpc(
    'record_mirror_drift',
    {
      p_drifts: drifts.map(({ userId, issue, stored, ledger }) => ({
        user_id: userId,
        issue,
        stored: stored === null ? null : numbersOf(stored),
        ledger: ledger === null ? null : numbersOf(ledger),
      })),
    },
    { idempotent: false },
  );
}

function numbersOf({ version, balance, held, available, suspended, valid_until }: MirrorRecord) {
  return { version, balance, held, available, suspended, valid_until };
}
