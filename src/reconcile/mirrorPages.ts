import type { Json, MirrorRecord, RedisStore } from '../core/ports.ts';
import { getMirrorRecords, listMirrorRecords, type UserMirrorRecord } from '../credits/ledger.ts';
import { type NewFinding, noteFinding } from './book.ts';
import type { JudgeDeps, JudgedBy } from './judge.ts';
import type { Difference } from './reconcile.types.ts';
import { proposeRepair } from './repairs.ts';

/** The copies in Redis against the ledger, which decides. */

const PAGE = 1000;
/** Copies follow the ledger within a moment; what differs after it differs. */
const SETTLE_MS = 1_000;

export interface MirrorDeps extends Omit<JudgeDeps, 'redis'> {
  /** The store without the bound on each call: batches take longer. */
  redis: RedisStore;
  pause: (ms: number) => Promise<void>;
}

export interface ComparedMirrors {
  users: number;
  differences: Difference[];
  next: string | null;
}

/** A page of all users in the order of their ids. */
export async function compareMirrors(
  deps: MirrorDeps,
  by: JudgedBy,
  after: string | null,
): Promise<ComparedMirrors> {
  const { records, complete, last } = await listMirrorRecords(deps.db, after, PAGE);
  const differences = await compareCopies(deps, by, records);
  return { users: records.length, differences, next: complete ? null : last };
}

/**
 * Compares the copies of these users, and writes those that differ anew. A copy that is missing is
 * written without a word: it costs its reader a look at the ledger, and nobody is answered wrongly.
 */
export async function compareCopies(
  deps: MirrorDeps,
  by: JudgedBy,
  records: UserMirrorRecord[],
): Promise<Difference[]> {
  if ((await differing(deps, records)).length === 0) return [];
  await deps.pause(SETTLE_MS);
  const found = await differing(deps, records);
  const differences: Difference[] = [];
  for (const { record, copy } of found) {
    const { user_id: userId, ...wanted } = record;
    if (!by.dryRun) {
      const write = await deps.redis.writeMirror(userId, wanted);
      // One ahead of the ledger is of a past that was undone; only the very copy that was seen goes.
      if (write.outcome === 'stale' && copy !== null) {
        const seen = { ledger: copy.ledger, version: copy.version };
        if ((await deps.redis.removeMirror(userId, seen)) === 'applied') {
          await deps.redis.writeMirror(userId, wanted);
        }
      }
    }
    if (copy === null) continue;
    const finding = findingOf(record, copy);
    if (!by.dryRun) await noteFinding(deps.db, by, finding, true);
    differences.push({ ...finding, outcome: by.dryRun ? 'would_repair' : 'repaired' });
  }
  return differences;
}

/** Redis is read before the ledger: a copy of something that is not committed yet does not exist. */
async function differing(
  { db, redis }: MirrorDeps,
  users: UserMirrorRecord[],
): Promise<{ record: UserMirrorRecord; copy: MirrorRecord | null }[]> {
  const ids = users.map(({ user_id }) => user_id);
  const copies = await redis.readMirrors(ids);
  const suspected = users.flatMap((user, index) => {
    const copy = copies[index] ?? null;
    return copy !== null && isSame(user, copy) ? [] : [{ userId: user.user_id, copy }];
  });
  if (suspected.length === 0) return [];
  const records = await getMirrorRecords(
    db,
    suspected.map(({ userId }) => userId),
  );
  const byUser = new Map(records.map((record) => [record.user_id, record]));
  return suspected.flatMap(({ userId, copy }) => {
    const record = byUser.get(userId);
    return record === undefined || (copy !== null && isSame(record, copy))
      ? []
      : [{ record, copy }];
  });
}

export function isSame(record: MirrorRecord, copy: MirrorRecord): boolean {
  return (
    copy.ledger === record.ledger &&
    copy.version === record.version &&
    copy.balance === record.balance &&
    copy.held === record.held &&
    copy.available === record.available &&
    copy.suspended === record.suspended &&
    // A copy may end sooner than it must, which costs a look at the ledger; never later.
    (record.valid_until === null ||
      (copy.valid_until ?? Number.POSITIVE_INFINITY) <= record.valid_until)
  );
}

function findingOf(
  { user_id: userId, ...record }: UserMirrorRecord,
  copy: MirrorRecord,
): NewFinding {
  const detail = { ledger: { ...record } as Json, redis: { ...copy } as Json };
  const subject = `mirror:${userId}`;
  return {
    code: 'mirror_differs',
    subject,
    user_id: userId,
    detail,
    repair: proposeRepair('mirror_differs', { subject, userId, detail }),
  };
}
