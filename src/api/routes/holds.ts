import {
  captureHold,
  createHold,
  extendHold,
  getHold,
  listUserHolds,
  releaseHold,
} from '../contract/holds.ts';
import { costOf } from '../costOf.ts';
import { defineRoute } from '../defineRoute.ts';
import { mutateMoney } from '../mutateMoney.ts';

export const holdRoutes = [
  defineRoute(createHold, (deps, { body, headers, query }) =>
    mutateMoney(deps, query, ({ holds }) =>
      holds.create({
        userId: body.user_id,
        amount: costOf(deps, body),
        expiresInSeconds: body.expires_in_seconds,
        idempotencyKey: headers['idempotency-key'],
        description: body.description,
        metadata: body.metadata,
      }),
    ),
  ),

  defineRoute(captureHold, (deps, { params, body, headers, query }) =>
    mutateMoney(deps, query, ({ holds }) =>
      holds.capture({ ...params, ...body, idempotencyKey: headers['idempotency-key'] }),
    ),
  ),

  defineRoute(releaseHold, (deps, { params, query }) =>
    mutateMoney(deps, query, async ({ holds }) => ({
      answer: await holds.release(params.holdId),
    })),
  ),

  defineRoute(extendHold, (deps, { params, body, query }) =>
    mutateMoney(deps, query, async ({ holds }) => ({
      answer: await holds.extend({
        holdId: params.holdId,
        expiresInSeconds: body.expires_in_seconds,
      }),
    })),
  ),

  defineRoute(getHold, async ({ holds }, { params }) => ({
    body: await holds.get(params.holdId),
  })),

  defineRoute(listUserHolds, async ({ holds }, { params, query }) => ({
    body: await holds.listOpen({ userId: params.userId, ...query }),
  })),
];
