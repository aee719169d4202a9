import { createHash, randomBytes } from 'node:crypto';
import { PurserError } from '../core/errors.ts';
import type { Database } from '../core/ports.ts';
import { unknownEvent } from './eventLog.ts';

/** As long as a key: nobody guesses one. */
const TOKEN_BYTES = 32;
/** Life of a link whose maker names none. */
const LINK_SECONDS = 7 * 86_400;

export interface Claim {
  event_id: string;
  /** The Stripe object that was bought with. */
  object_id: string;
  user_id: string;
  /** Parked events that are worked on now; none when the claim was made before. */
  event_ids: string[];
}

export interface ClaimLink {
  event_id: string;
  object_id: string;
  /** Shown this once; only its digest is kept. */
  token: string;
  /** Where a signed-in user sends it: POST. */
  path: string;
  /** The page for the buyer; the token is in the fragment, which reaches no server and no log. */
  url: string;
  expires_at: string;
}

/** Parked purchases whose buyer nobody knows, given to a user by an explicit word. */
export interface Claims {
  /**
   * An admin says whose it is; the grant follows within seconds. Repeating it changes nothing.
   * Errors: `not_found` (no such event, or it is not parked), `user_not_found`, `invalid_request`.
   */
  assign(claim: { eventId: string; userId: string; reason: string }, actor: string): Promise<Claim>;
  /** A one-time link, in place of the one before. Errors: `not_found`. */
  createLink(
    link: { eventId: string; expiresInSeconds?: number | undefined },
    actor: string,
  ): Promise<ClaimLink>;
  /** Redeems a link for a signed-in user. Errors: `not_found` when used, expired or unknown. */
  redeem(token: string, userId: string, actor: string): Promise<Claim>;
}

type Answer = Claim & {
  outcome: 'claimed' | 'not_found' | 'user_not_found' | 'not_parked' | 'no_purchase' | 'conflict';
  status?: string;
};

export interface ClaimsDeps {
  db: Database;
  /** Where the pages are served, without a slash at the end. */
  publicUrl: () => string;
}

export function createClaims({ db, publicUrl }: ClaimsDeps): Claims {
  return {
    async assign({ eventId, userId, reason }, actor) {
      const answer = await db.rpc<Answer>('claim_parked_event', {
        p_event_id: eventId,
        p_user_id: userId,
        p_actor: actor,
        p_reason: reason,
      });
      return claimOf(answer, eventId, userId);
    },

    async createLink({ eventId, expiresInSeconds = LINK_SECONDS }, actor) {
      const token = randomBytes(TOKEN_BYTES).toString('base64url');
      const made = await db.rpc<{
        outcome: 'created' | 'not_found' | 'not_parked' | 'no_purchase';
        object_id: string;
        expires_at: string;
        status?: string;
      }>('create_claim_link', {
        p_event_id: eventId,
        p_token_hash: hashOf(token),
        p_expires_seconds: expiresInSeconds,
        p_actor: actor,
      });
      if (made.outcome === 'not_found') throw unknownEvent(eventId);
      if (made.outcome === 'no_purchase') throw noPurchase(eventId);
      if (made.outcome === 'not_parked') throw notParked(eventId, made.status);
      return {
        event_id: eventId,
        object_id: made.object_id,
        token,
        path: `/api/claims/${token}`,
        url: `${publicUrl()}/claim#purchase=${token}`,
        expires_at: made.expires_at,
      };
    },

    async redeem(token, userId, actor) {
      const answer = await db.rpc<Answer>('use_claim_link', {
        p_token_hash: hashOf(token),
        p_user_id: userId,
        p_actor: actor,
      });
      if (answer.outcome !== 'claimed' && answer.outcome !== 'user_not_found') {
        throw new PurserError('not_found', {
          detail:
            'This link does not lead to a purchase: it was used, has expired, or was replaced by a newer one. Ask for a new one.',
        });
      }
      return claimOf(answer, '', userId);
    },
  };
}

function claimOf(answer: Answer, eventId: string, userId: string): Claim {
  const { outcome, status, ...claim } = answer;
  switch (outcome) {
    case 'claimed':
      return claim;
    case 'not_found':
      throw unknownEvent(eventId);
    case 'user_not_found':
      throw new PurserError('user_not_found', {
        detail: `There is no user ${userId}. Create it first: PUT /api/users/:userId.`,
      });
    case 'no_purchase':
      throw noPurchase(eventId);
    case 'conflict':
      throw new PurserError('not_found', {
        detail: `The purchase ${claim.object_id} is granted to another user already, so there is nothing left to claim.`,
      });
    case 'not_parked':
      throw notParked(eventId, status);
  }
}

function noPurchase(eventId: string): PurserError {
  return new PurserError('not_found', {
    detail: `The event ${eventId} is about no session, invoice or payment, so there is nothing to claim. A subscription becomes a user’s by his customer: PUT /api/users/:userId with stripe_customer_id.`,
  });
}

function notParked(eventId: string, status: string | undefined): PurserError {
  return new PurserError('not_found', {
    detail: `The event ${eventId} is ${status ?? 'not parked'}; only parked ones wait for an owner.`,
  });
}

function hashOf(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}
