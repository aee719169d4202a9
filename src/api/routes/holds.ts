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

const replayHeaders = (replayed: boolean): Record<string, string> =>
  replayed ? { 'Idempotency-Replayed': 'true' } : {};

export const holdRoutes = [
  defineRoute(createHold, async (deps, { body, headers }) => {
    const { answer, replayed } = await deps.holds.create({
      userId: body.user_id,
      amount: costOf(deps, body),
      expiresInSeconds: body.expires_in_seconds,
      idempotencyKey: headers['idempotency-key'],
      description: body.description,
      metadata: body.metadata,
    });
    return { body: answer, headers: replayHeaders(replayed) };
  }),

  defineRoute(captureHold, async ({ holds }, { params, body, headers }) => {
    const { answer, replayed } = await holds.capture({
      ...params,
      ...body,
      idempotencyKey: headers['idempotency-key'],
    });
    return { body: answer, headers: replayHeaders(replayed) };
  }),

  defineRoute(releaseHold, async ({ holds }, { params }) => ({
    body: await holds.release(params.holdId),
  })),

  defineRoute(extendHold, async ({ holds }, { params, body }) => ({
    body: await holds.extend({
      holdId: params.holdId,
      expiresInSeconds: body.expires_in_seconds,
    }),
  })),

  defineRoute(getHold, async ({ holds }, { params }) => ({
    body: await holds.get(params.holdId),
  })),

  defineRoute(listUserHolds, async ({ holds }, { params, query }) => ({
    body: await holds.listOpen({ userId: params.userId, ...query }),
  })),
];
