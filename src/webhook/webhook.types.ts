/** The webhook domain as the API and the jobs see it. */

export interface ReceivedAnswer {
  received: true;
  duplicate: boolean;
}

export interface RetryRequest {
  event_ids?: string[] | undefined;
  status?: 'failed' | 'parked' | 'dead' | 'ignored' | 'processed' | 'logged' | undefined;
  /** ISO 8601 lower bound of the event's arrival. */
  since?: string | undefined;
  type?: string | undefined;
  dry_run?: boolean | undefined;
}

export interface RetryAnswer {
  /** How many rows matched. */
  matched: number;
  /** How many were put back to `received` at once; 0 in a dry run. */
  requeued: number;
  /** The 1000 oldest of them. */
  event_ids: string[];
  /** Set when they are too many to go at once: the replay that works them off. */
  replay_id: string | null;
  dry_run: boolean;
}

export interface Webhook {
  /**
   * Verifies the signature over the raw bytes and commits the event to the inbox; the work
   * follows in the background. Errors: `invalid_signature`, `invalid_request`,
   * `dependency_down` (so that Stripe sends again).
   */
  receive(rawBody: Uint8Array, signatureHeader: string | undefined): Promise<ReceivedAnswer>;
  /** Re-queues ended or failed events; an empty request means failed, parked and dead ones. */
  retry(request: RetryRequest, actor: string): Promise<RetryAnswer>;
  /** Resolves when all work begun in this process has ended (for the drain). */
  idle(): Promise<void>;
}
