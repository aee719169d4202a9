import { PurserError } from '../core/errors.ts';
import type { Database, MirrorRecord } from '../core/ports.ts';
import { storableJson, storableText } from '../core/storableJson.ts';
import {
  captureHold,
  extendHold,
  getHold,
  holdCredits,
  listOpenHolds,
  releaseHold,
} from './holdLedger.ts';
import type { CaptureRequest, HoldAnswer, HoldRequest, HoldState, Holds } from './holds.types.ts';
import { userNotFound } from './ledger.ts';
import type { Mirror } from './mirror.ts';

export interface HoldsDeps {
  db: Database;
  mirror: Mirror;
  /** Where a user buys credits; shown in refusals. */
  buyUrl: () => string;
}

export function createHolds({ db, mirror, buyUrl }: HoldsDeps): Holds {
  function notSpendable(
    code: 'insufficient_credits' | 'suspended',
    detail: string,
    needed: number,
    account: { balance: number; available: number },
    /** Of these credits the amount would have been taken. */
    usable: number,
  ): PurserError {
    return new PurserError(code, {
      detail,
      extensions: {
        balance: account.balance,
        available: account.available,
        needed,
        shortfall: needed - usable,
        buy_url: buyUrl(),
      },
    });
  }

  return {
    async create(request) {
      const { userId, amount, expiresInSeconds, idempotencyKey } = request;
      const outcome = await holdCredits(db, {
        userId,
        amount,
        expiresInSeconds,
        key: idempotencyKey,
        ...notesOf(request),
      });
      if (outcome.outcome === 'not_found') throw userNotFound(userId);
      mirror.update(outcome.user_id, outcome.mirror);
      switch (outcome.outcome) {
        case 'applied':
        case 'replayed':
          return { answer: toAnswer(outcome), replayed: outcome.outcome === 'replayed' };
        case 'conflict':
          throw new PurserError('idempotency_key_reused', {
            detail: `The key "${idempotencyKey}" made hold ${outcome.hold_id} of ${outcome.amount} credits of this user. Use a new key for a new hold.`,
          });
        case 'suspended':
        case 'insufficient_credits': {
          const { balance, available } = outcome;
          const detail =
            outcome.outcome === 'suspended'
              ? `The account is suspended, so its plan credits cannot be held: ${available} of ${balance} credits are available and ${amount} are needed.`
              : `${amount} credits are needed and ${available} are available.`;
          throw notSpendable(outcome.outcome, detail, amount, outcome, available);
        }
        default:
          throw unknownOutcome('hold_credits', outcome satisfies never);
      }
    },

    async capture(request) {
      const { holdId, amount, idempotencyKey } = request;
      const outcome = await captureHold(db, {
        holdId,
        amount,
        key: idempotencyKey,
        ...notesOf(request),
      });
      if (outcome.outcome === 'not_found') throw holdNotFound(holdId, outcome.user_id);
      mirror.update(outcome.user_id, outcome.mirror);
      const left = outcome.amount - outcome.captured;
      const needed = amount ?? left;
      switch (outcome.outcome) {
        case 'applied':
        case 'replayed':
          return { answer: toAnswer(outcome), replayed: outcome.outcome === 'replayed' };
        case 'conflict':
          throw new PurserError('idempotency_key_reused', {
            detail: `The key "${idempotencyKey}" captured another amount of hold ${holdId}. Use a new key for a new capture.`,
          });
        case 'hold_ended':
          throw holdEnded(outcome);
        case 'hold_exceeded':
          throw new PurserError('invalid_request', {
            detail: `Hold ${holdId} has ${left} of its ${outcome.amount} credits left to capture, not ${needed}.`,
            extensions: {
              remaining: left,
              errors: [{ path: 'amount', message: `must be at most ${left}, what is left of it` }],
            },
          });
        case 'suspended':
        case 'insufficient_credits': {
          const { balance, available, expires_at } = outcome;
          if (outcome.status === 'open') {
            const detail = `Credits that hold ${holdId} reserves were taken back since, by a refund or a dispute: ${needed} are needed and the balance is ${balance}.`;
            throw notSpendable(outcome.outcome, detail, needed, outcome, balance);
          }
          const why =
            outcome.outcome === 'suspended'
              ? 'and the account is suspended, so that its plan credits cannot be spent'
              : 'so its credits could be spent elsewhere';
          const detail = `Hold ${holdId} expired at ${expires_at}, ${why}: ${needed} are needed and ${available} are available.`;
          throw notSpendable(outcome.outcome, detail, needed, outcome, available);
        }
        default:
          throw unknownOutcome('capture_hold', outcome satisfies never);
      }
    },

    async release(holdId) {
      const outcome = await releaseHold(db, holdId);
      if (outcome.outcome === 'not_found') throw holdNotFound(holdId, outcome.user_id);
      mirror.update(outcome.user_id, outcome.mirror);
      return toAnswer(outcome);
    },

    async extend({ holdId, expiresInSeconds }) {
      const outcome = await extendHold(db, holdId, expiresInSeconds);
      if (outcome.outcome === 'not_found') throw holdNotFound(holdId, outcome.user_id);
      mirror.update(outcome.user_id, outcome.mirror);
      if (outcome.outcome === 'hold_ended') throw holdEnded(outcome);
      return toAnswer(outcome);
    },

    async get(holdId) {
      const found = await getHold(db, holdId);
      if (found.outcome === 'not_found') throw holdNotFound(holdId, undefined);
      const { outcome: _outcome, mirror: record, ...details } = found;
      if (record !== null) mirror.update(details.user_id, record);
      return details;
    },

    async listOpen({ userId, limit, cursor }) {
      const page = await listOpenHolds(db, userId, limit, cursor);
      if (page.outcome === 'not_found') throw userNotFound(userId);
      const [first] = page.data;
      if (first !== undefined) mirror.update(first.user_id, page.mirror);
      return { data: page.data, has_more: page.has_more, next_cursor: page.next_after };
    },
  };
}

function notesOf({ description, metadata }: HoldRequest | CaptureRequest) {
  return {
    ...(description === undefined ? {} : { description: storableText(description) }),
    ...(metadata === undefined ? {} : { metadata: storableJson(metadata) }),
  };
}

function toAnswer(outcome: HoldAnswer & { outcome: string; mirror: MirrorRecord }): HoldAnswer {
  const { outcome: _outcome, mirror: _mirror, ...answer } = outcome;
  return answer;
}

function holdNotFound(holdId: string, userId: string | undefined): PurserError {
  if (userId === undefined) {
    return new PurserError('not_found', { detail: `There is no hold ${holdId}.` });
  }
  return new PurserError('user_not_found', {
    detail: `Hold ${holdId} belongs to user ${userId}, whose account is closed.`,
  });
}

function holdEnded(hold: HoldState): PurserError {
  const { hold_id, user_id, status, amount, captured, released, remaining, expires_at } = hold;
  const how = {
    open: 'is open',
    captured: `was captured, all ${amount} credits of it`,
    released: `was released, with ${captured} of its ${amount} credits captured`,
    expired: `expired at ${expires_at}, with ${captured} of its ${amount} credits captured`,
  }[status];
  return new PurserError('hold_ended', {
    detail: `Hold ${hold_id} ${how}. Make a new hold.`,
    extensions: {
      hold: { hold_id, user_id, status, amount, captured, released, remaining, expires_at },
    },
  });
}

function unknownOutcome(name: string, outcome: unknown): Error {
  return new Error(`Unknown outcome of ${name}: ${JSON.stringify(outcome)}`);
}
