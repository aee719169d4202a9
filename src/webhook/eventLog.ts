import { z } from 'zod';
import { PurserError } from '../core/errors.ts';
import type { Database } from '../core/ports.ts';
import type { EventDetail, EventLog, EventSummary } from './eventLog.types.ts';

interface Position {
  created_at: string;
  id: string;
}

const positionSchema = z.tuple([z.literal('event'), z.iso.datetime({ offset: true }), z.guid()]);

/** Reads what sql/stripe_event_log_migration.sql lists. */
export function createEventLog({ db }: { db: Database }): EventLog {
  return {
    async list({ status, type, q, cursor, limit }) {
      const before = cursor === undefined ? null : positionOfCursor(cursor);
      const page = await db.rpc<{
        data: EventSummary[];
        has_more: boolean;
        next: Position | null;
      }>('list_webhook_events', {
        p_status: status,
        p_type: type,
        p_q: q,
        p_before_created: before?.created_at,
        p_before_id: before?.id,
        p_limit: limit,
      });
      return {
        data: page.data,
        has_more: page.has_more,
        next_cursor: page.next === null ? null : cursorOfPosition(page.next),
      };
    },

    async get(eventId) {
      const found = await db.rpc<{
        outcome: 'found' | 'not_found';
        event: EventSummary;
        payload: unknown;
        failures: EventDetail['attempts'];
        entries: EventDetail['entries'];
        object_events: EventSummary[];
      }>('get_webhook_event', { p_event_id: eventId });
      if (found.outcome === 'not_found') throw unknownEvent(eventId);
      const { event, payload, failures, entries, object_events } = found;
      return { ...event, payload, attempts: failures, entries, object_events };
    },

    deadLetters: () => db.rpc('list_dead_letters'),
  };
}

export function unknownEvent(eventId: string): PurserError {
  return new PurserError('not_found', {
    detail: `There is no event ${eventId} in the inbox. Was it delivered, and is it younger than the clean-up?`,
  });
}

/** Where the page ended, wrapped so that nobody builds one. */
function cursorOfPosition({ created_at, id }: Position): string {
  return Buffer.from(JSON.stringify(['event', created_at, id])).toString('base64url');
}

function positionOfCursor(cursor: string): Position {
  try {
    const [, created_at, id] = positionSchema.parse(
      JSON.parse(Buffer.from(cursor, 'base64url').toString()),
    );
    return { created_at, id };
  } catch (cause) {
    throw new PurserError('invalid_request', {
      detail: 'cursor is not one of ours; use next_cursor of the page before.',
      extensions: { errors: [{ path: 'cursor', message: 'is not a cursor of this list' }] },
      cause,
    });
  }
}
