import { PurserError } from '../../core/errors.ts';
import {
  getWebhookLog,
  listDeadLetters,
  listParkedEvents,
  listWebhookLogs,
} from '../contract/webhookLog.ts';
import {
  cancelReplay,
  claimParkedEvent,
  createClaimLink,
  getMissedEvents,
  getReplay,
  listReplays,
  redeemClaim,
  replayMissedEvents,
  retryWebhooks,
} from '../contract/webhookReplay.ts';
import { defineRoute } from '../defineRoute.ts';

export const webhookAdminRoutes = [
  defineRoute(listWebhookLogs, async ({ eventLog }, { query }) => ({
    body: await eventLog.list(query),
  })),

  defineRoute(getWebhookLog, async ({ eventLog }, { params }) => ({
    body: await eventLog.get(params.eventId),
  })),

  defineRoute(listParkedEvents, async ({ eventLog }, { query }) => ({
    body: await eventLog.list({ ...query, status: 'parked' }),
  })),

  defineRoute(listDeadLetters, async ({ eventLog }) => ({ body: await eventLog.deadLetters() })),

  defineRoute(retryWebhooks, async ({ webhook }, { caller, body }) => ({
    body: await webhook.retry(body, caller.actor),
  })),

  defineRoute(listReplays, async ({ replays }) => ({ body: { data: await replays.list() } })),

  defineRoute(getReplay, async ({ replays }, { params }) => ({
    body: await replays.get(params.replayId),
  })),

  defineRoute(cancelReplay, async ({ replays }, { params, caller }) => ({
    body: await replays.cancel(params.replayId, caller.actor),
  })),

  defineRoute(replayMissedEvents, async ({ missedEvents }, { body, caller }) => ({
    body: await missedEvents.replaySince(body, caller.actor),
  })),

  defineRoute(getMissedEvents, async ({ missedEvents }) => ({ body: await missedEvents.state() })),

  defineRoute(claimParkedEvent, async ({ claims }, { params, body, caller }) => ({
    body: await claims.assign(
      { eventId: params.eventId, userId: body.user_id, reason: body.reason },
      caller.actor,
    ),
  })),

  defineRoute(createClaimLink, async ({ claims }, { params, body, caller }) => ({
    body: await claims.createLink(
      { eventId: params.eventId, expiresInSeconds: body.expires_in_seconds },
      caller.actor,
    ),
  })),

  defineRoute(redeemClaim, async ({ claims }, { params, caller }) => {
    if (caller.anonymous) {
      throw new PurserError('forbidden', {
        detail:
          'An anonymous sign-in cannot take over a purchase: its credits would be lost with it. Sign up first.',
      });
    }
    return { body: await claims.redeem(params.token, caller.userId, caller.actor) };
  }),
];
