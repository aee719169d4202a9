/** The event log as admins read it. */

export type EventStatus =
  | 'logged'
  | 'received'
  | 'leased'
  | 'failed'
  | 'parked'
  | 'processed'
  | 'ignored'
  | 'dead';

export interface EventSummary {
  event_id: string;
  event_type: string;
  object_id: string | null;
  status: EventStatus;
  /** What the last attempt failed with. */
  error: string | null;
  /** Why it was ignored, or what it waits for. */
  reason: string | null;
  /** The event whose worker read the object after this one came, and so knew what it tells. */
  covered_by: string | null;
  error_code: string | null;
  cause: 'transient' | 'permanent' | null;
  /** The user or Stripe customer a parked event waits for. */
  waiting_for: string | null;
  retry_count: number;
  next_attempt_at: string | null;
  /** When it happened, at Stripe. */
  event_created_at: string | null;
  received_at: string;
  ended_at: string | null;
}

export interface EventFilter {
  status?: EventStatus | undefined;
  type?: string | undefined;
  /** Id of an event, object, user or customer; or a part of an error's text. */
  q?: string | undefined;
  cursor?: string | undefined;
  /** 1 to 100. */
  limit?: number | undefined;
}

export interface EventPage {
  data: EventSummary[];
  has_more: boolean;
  next_cursor: string | null;
}

export interface EventDetail extends EventSummary {
  payload: unknown;
  /** The last 20 failed attempts, oldest first. */
  attempts: { at: string; code: string; cause: 'transient' | 'permanent'; error: string }[];
  /** What the event wrote to the ledger. */
  entries: {
    transaction_id: string;
    user_id: string;
    transaction_type: string;
    amount: number;
    created_at: string;
  }[];
  /** Other events of its object, oldest first, 50 at most. */
  object_events: EventSummary[];
}

/** Dead events with one cause in common. */
export interface DeadLetterGroup {
  error_code: string;
  cause: 'transient' | 'permanent';
  event_type: string;
  events: number;
  oldest: string;
  newest: string;
  last_error: string | null;
  /** The 20 oldest. */
  event_ids: string[];
}

export interface EventLog {
  /** Newest first. Errors: `invalid_request` for a cursor that is none. */
  list(filter: EventFilter): Promise<EventPage>;
  /** Errors: `not_found`. */
  get(eventId: string): Promise<EventDetail>;
  deadLetters(): Promise<{ total: number; groups: DeadLetterGroup[] }>;
}
