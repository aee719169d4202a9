import { PurserError } from '../core/errors.ts';
import type { Database, MirrorRecord, RedisStore } from '../core/ports.ts';
import type { AdminUsers, FoundUser, MirrorView, UserView } from './admin.types.ts';
import { fromCursor, toCursor } from './cursor.ts';

const LIST = 'users';

export interface AdminUsersDeps {
  db: Database;
  /** With a bound on each call: an admin looks at users also while Redis is away. */
  redis: Pick<RedisStore, 'readMirror'>;
}

/** Users with the ledger's side and Redis' side beside each other; see sql/admin_migration.sql. */
export function createAdminUsers({ db, redis }: AdminUsersDeps): AdminUsers {
  return {
    async search({ q, cursor, limit }) {
      const page = await db.rpc<{
        data: FoundUser[];
        has_more: boolean;
        next_after: string | null;
      }>('search_users', {
        p_q: q,
        p_after: cursor === undefined ? undefined : fromCursor(LIST, cursor, /^.{1,255}$/su),
        p_limit: limit,
      });
      return {
        data: page.data,
        has_more: page.has_more,
        next_cursor: page.next_after === null ? null : toCursor(LIST, page.next_after),
      };
    },

    async view(userId) {
      const found = await db.rpc<
        | ({ outcome: 'found'; mirror_record: MirrorRecord | null } & Omit<UserView, 'mirror'>)
        | { outcome: 'not_found' }
      >('get_admin_user', { p_user_id: userId });
      if (found.outcome === 'not_found') {
        throw new PurserError('user_not_found', {
          detail: `There is no user ${userId}. GET /api/admin/users?q= searches by id, e-mail and Stripe customer.`,
        });
      }
      const { outcome: _, mirror_record: record, ...view } = found;
      return { ...view, mirror: await lookAtMirror(redis, view.profile.user_id, record) };
    },
  };
}

async function lookAtMirror(
  redis: AdminUsersDeps['redis'],
  userId: string,
  record: MirrorRecord | null,
): Promise<MirrorView> {
  const nothing = { version: null, balance: null, available: null, valid_until: null };
  let copy: MirrorRecord | null;
  try {
    copy = await redis.readMirror(userId);
  } catch (error) {
    if (!(error instanceof PurserError)) throw error;
    return { state: 'unreachable', ...nothing };
  }
  if (copy === null) return { state: 'missing', ...nothing };
  const { version, balance, available, valid_until: validUntil } = copy;
  return {
    state: compare(copy, record),
    version,
    balance,
    available,
    valid_until: validUntil === null ? null : new Date(validUntil).toISOString(),
  };
}

function compare(copy: MirrorRecord, record: MirrorRecord | null): MirrorView['state'] {
  if (record === null || copy.ledger !== record.ledger) return 'foreign';
  if (copy.version === record.version) return 'equal';
  return copy.version < record.version ? 'behind' : 'ahead';
}
