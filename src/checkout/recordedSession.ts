import type { Database } from '../core/ports.ts';

export interface RecordedSession {
  session: {
    session_id: string;
    user_id: string;
    customer_id: string | null;
    credits: number;
    state: 'open' | 'complete' | 'credited' | 'expired' | 'failed';
  } | null;
  /** The entry the session paid for: the proof that it was credited. */
  entry: { user_id: string; amount: number; transaction_id: string } | null;
}

/** What our own database knows of a session: see get_checkout_session in sql/. */
export function getRecordedSession(db: Database, sessionId: string): Promise<RecordedSession> {
  return db.rpc('get_checkout_session', { p_session_id: sessionId });
}
