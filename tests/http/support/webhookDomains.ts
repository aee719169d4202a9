import type { AppDeps } from '../../../src/api/deps.ts';

export const REPLAY_ID = '00000000-0000-4000-8000-000000000001';

/** The domains behind the admin routes of the event log, with one answer each. */
export function webhookDomains(
  record: (name: string, ...args: unknown[]) => void,
): Pick<AppDeps, 'eventLog' | 'replays' | 'missedEvents' | 'claims'> {
  const at = '2026-11-21T10:00:00.000Z';
  const entry = {
    event_id: 'evt_1',
    event_type: 'checkout.session.completed',
    object_id: 'cs_1',
    status: 'parked' as const,
    error: null,
    reason: 'nobody is known as the buyer',
    error_code: null,
    cause: null,
    covered_by: null,
    waiting_for: 'cus_1',
    retry_count: 0,
    next_attempt_at: null,
    event_created_at: at,
    received_at: at,
    ended_at: null,
  };
  const replay = {
    id: REPLAY_ID,
    status: 'running' as const,
    filter: { status: 'dead' },
    matched: 200,
    requeued: 50,
    actor: 'admin:00000000',
    started_at: at,
    finished_at: null,
    canceled_by: null,
  };
  const missed = {
    from: at,
    listed: 2,
    received: 1,
    duplicates: 1,
    event_ids: ['evt_2'],
    complete: true,
    next_since: null,
  };
  const claim = { event_id: 'evt_1', object_id: 'cs_1', user_id: 'u1', event_ids: ['evt_1'] };
  return {
    eventLog: {
      async list(filter) {
        record('listEvents', filter);
        return { data: [entry], has_more: false, next_cursor: null };
      },
      async get(eventId) {
        record('getEvent', eventId);
        return { ...entry, payload: { id: eventId }, attempts: [], entries: [], object_events: [] };
      },
      deadLetters: async () => ({ total: 0, groups: [] }),
    },
    replays: {
      list: async () => [replay],
      get: async () => replay,
      async cancel(id, actor) {
        record('cancelReplay', id, actor);
        return { ...replay, status: 'canceled', finished_at: at, canceled_by: actor };
      },
    },
    missedEvents: {
      run: async () => missed,
      async replaySince(request, actor) {
        record('replaySince', request, actor);
        return { ...missed, dry_run: request.dry_run ?? false };
      },
      state: async () => ({ position: at, last_run: null }),
    },
    claims: {
      async assign(given, actor) {
        record('assignClaim', given, actor);
        return claim;
      },
      async createLink(given, actor) {
        record('createClaimLink', given, actor);
        return {
          event_id: given.eventId,
          object_id: 'cs_1',
          token: 'x'.repeat(43),
          path: `/api/claims/${'x'.repeat(43)}`,
          url: `https://shop.example.com/claim#purchase=${'x'.repeat(43)}`,
          expires_at: at,
        };
      },
      async redeem(token, userId) {
        record('redeemClaim', token, userId);
        return claim;
      },
    },
  };
}
