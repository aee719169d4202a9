import type { Database } from '../core/ports.ts';
import type { Audit, AuditEvent } from './admin.types.ts';
import { fromCursor, toCursor } from './cursor.ts';

const LIST = 'audit';

/** Reads what sql/admin_migration.sql lists. */
export function createAudit({ db }: { db: Database }): Audit {
  return {
    async list({ actor, action, user_id, from, to, cursor, limit }) {
      const page = await db.rpc<{
        data: AuditEvent[];
        has_more: boolean;
        next_before_id: number | null;
      }>('list_audit_events', {
        p_actor: actor,
        p_action: action,
        p_user_id: user_id,
        p_from: from,
        p_to: to,
        p_before_id:
          cursor === undefined ? undefined : Number(fromCursor(LIST, cursor, /^\d{1,15}$/)),
        p_limit: limit,
      });
      return {
        data: page.data,
        has_more: page.has_more,
        next_cursor:
          page.next_before_id === null ? null : toCursor(LIST, String(page.next_before_id)),
      };
    },
  };
}
