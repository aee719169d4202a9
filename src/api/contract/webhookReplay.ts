import { z } from 'zod';
import { declareRoute } from './declareRoute.ts';
import { instantSchema, text, timestampSchema, userIdSchema } from './primitives.ts';
import { eventIdSchema, eventTypeSchema } from './webhookLog.ts';

const EVENT_IDS_MAX = 1_000;
const REASON_LENGTH_MAX = 500;
/** The bounds of a claim link's life, in seconds: a minute to 30 days. */
const LINK_SECONDS_MIN = 60;
const LINK_SECONDS_MAX = 30 * 86_400;

const RETRIED = ['failed', 'parked', 'dead', 'ignored', 'processed', 'logged'] as const;

export const retryWebhooks = declareRoute({
  id: 'retryWebhooks',
  method: 'post',
  path: '/api/admin/stripe/retry-webhooks',
  tag: 'Admin',
  summary: 'Work on events again',
  description:
    'An empty request means everything failed, parked or dead. Up to 100 go at once; more become a replay that is worked off at a bounded pace and can be asked and cancelled under `replay_id`.',
  auth: 'admin',
  query: z.strictObject({}),
  body: z
    .strictObject({
      event_ids: z
        .array(eventIdSchema)
        .min(1, 'must not be empty')
        .max(EVENT_IDS_MAX, `must not hold more than ${EVENT_IDS_MAX} ids`)
        .optional(),
      status: z.enum(RETRIED, `must be one of ${RETRIED.join(', ')}`).optional(),
      since: instantSchema.optional(),
      type: eventTypeSchema.optional(),
      dry_run: z.boolean().optional(),
    })
    .superRefine((body, context) => {
      if (body.event_ids !== undefined && body.status !== undefined) {
        context.addIssue({
          code: 'custom',
          path: ['status'],
          message: 'give either event_ids or status',
        });
      }
    })
    .meta({ id: 'RetryWebhooksRequest' }),
  bodyOptional: true,
  responses: {
    200: {
      description: 'What is put back.',
      body: z
        .object({
          matched: z.int(),
          requeued: z.int().meta({ description: 'How many went at once.' }),
          event_ids: z.array(z.string()).meta({ description: 'The 1000 oldest.' }),
          replay_id: z
            .string()
            .nullable()
            .meta({ description: 'The replay that works off the rest.' }),
          dry_run: z.boolean(),
        })
        .meta({ id: 'RetryWebhooksAnswer' }),
    },
  },
  errors: ['dependency_down'],
});

const replaySchema = z
  .object({
    id: z.string(),
    status: z.enum(['running', 'done', 'canceled']),
    filter: z.record(z.string(), z.unknown()),
    matched: z.int(),
    requeued: z.int().meta({ description: 'Events that are back in the inbox so far.' }),
    actor: z.string(),
    started_at: timestampSchema,
    finished_at: timestampSchema.nullable(),
    canceled_by: z.string().nullable(),
  })
  .meta({ id: 'WebhookReplay' });

const replayParams = z.strictObject({ replayId: z.guid('must be the id of a replay') });

export const listReplays = declareRoute({
  id: 'listReplays',
  method: 'get',
  path: '/api/admin/stripe/replays',
  tag: 'Admin',
  summary: 'The last 50 replays, newest first',
  auth: 'admin',
  query: z.strictObject({}),
  responses: {
    200: { description: 'Replays.', body: z.object({ data: z.array(replaySchema) }) },
  },
  errors: ['dependency_down'],
});

export const getReplay = declareRoute({
  id: 'getReplay',
  method: 'get',
  path: '/api/admin/stripe/replays/:replayId',
  tag: 'Admin',
  summary: 'How far a replay is',
  auth: 'admin',
  params: replayParams,
  query: z.strictObject({}),
  responses: { 200: { description: 'The replay.', body: replaySchema } },
  errors: ['not_found', 'dependency_down'],
});

export const cancelReplay = declareRoute({
  id: 'cancelReplay',
  method: 'post',
  path: '/api/admin/stripe/replays/:replayId/cancel',
  tag: 'Admin',
  summary: 'Put nothing more back',
  description: 'What is back in the inbox already is worked on. Repeating it changes nothing.',
  auth: 'admin',
  params: replayParams,
  query: z.strictObject({}),
  body: z.strictObject({}),
  bodyOptional: true,
  responses: { 200: { description: 'The replay as it ended.', body: replaySchema } },
  errors: ['not_found', 'dependency_down'],
});

export const replayMissedEvents = declareRoute({
  id: 'replayMissedEvents',
  method: 'post',
  path: '/api/admin/stripe/replay-missed-events',
  tag: 'Admin',
  summary: 'Fetch events from Stripe that were never delivered',
  description:
    'Compares Stripe’s list of events with the inbox for at most 20 seconds; `complete: false` says where to go on. Stripe keeps events for 30 days.',
  auth: 'admin',
  query: z.strictObject({}),
  body: z
    .strictObject({ since: instantSchema.optional(), dry_run: z.boolean().optional() })
    .meta({ id: 'ReplayMissedEventsRequest' }),
  bodyOptional: true,
  responses: {
    200: {
      description: 'What was found.',
      body: z
        .object({
          from: timestampSchema,
          listed: z.int().meta({ description: 'Events of the types Purser acts upon.' }),
          received: z.int().meta({ description: 'Those that were missing.' }),
          duplicates: z.int(),
          event_ids: z.array(z.string()).meta({ description: 'The first 1000 that were missing.' }),
          complete: z.boolean(),
          next_since: timestampSchema.nullable(),
          dry_run: z.boolean(),
        })
        .meta({ id: 'MissedEvents' }),
    },
  },
  errors: ['dependency_down'],
});

export const getMissedEvents = declareRoute({
  id: 'getMissedEvents',
  method: 'get',
  path: '/api/admin/stripe/replay-missed-events',
  tag: 'Admin',
  summary: 'How far events were compared with Stripe’s list',
  auth: 'admin',
  query: z.strictObject({}),
  responses: {
    200: {
      description: 'The position and the last run of the job.',
      body: z
        .object({
          position: timestampSchema.nullable(),
          last_run: z
            .object({
              started_at: timestampSchema,
              finished_at: timestampSchema.nullable(),
              outcome: z.enum(['done', 'failed']).nullable(),
              result: z.record(z.string(), z.unknown()).nullable(),
            })
            .nullable(),
        })
        .meta({ id: 'MissedEventsState' }),
    },
  },
  errors: ['dependency_down'],
});

const claimSchema = z
  .object({
    event_id: z.string(),
    object_id: z.string(),
    user_id: z.string(),
    event_ids: z.array(z.string()).meta({ description: 'Events that are worked on now.' }),
  })
  .meta({ id: 'Claim' });

const eventParams = z.strictObject({ eventId: eventIdSchema });

export const claimParkedEvent = declareRoute({
  id: 'claimParkedEvent',
  method: 'post',
  path: '/api/admin/stripe/parked/:eventId/claim',
  tag: 'Admin',
  summary: 'Say whose a parked purchase is',
  description: 'The credits go to that user, whatever Stripe’s objects say. Audited.',
  auth: 'admin',
  params: eventParams,
  query: z.strictObject({}),
  body: z
    .strictObject({
      user_id: userIdSchema,
      reason: text(REASON_LENGTH_MAX).trim().min(1, 'must say why'),
    })
    .meta({ id: 'ClaimRequest' }),
  responses: { 200: { description: 'The claim.', body: claimSchema } },
  errors: ['not_found', 'user_not_found', 'dependency_down'],
});

export const createClaimLink = declareRoute({
  id: 'createClaimLink',
  method: 'post',
  path: '/api/admin/stripe/parked/:eventId/claim-link',
  tag: 'Admin',
  summary: 'Make a one-time link for the buyer',
  description:
    'For a buyer nobody knows: whoever signs in and sends the token gets the purchase. The token is shown this once; a new link replaces one that was not used.',
  auth: 'admin',
  params: eventParams,
  query: z.strictObject({}),
  body: z
    .strictObject({
      expires_in_seconds: z
        .int()
        .min(LINK_SECONDS_MIN, `must be at least ${LINK_SECONDS_MIN}`)
        .max(LINK_SECONDS_MAX, `must be at most ${LINK_SECONDS_MAX}`)
        .optional()
        .meta({ description: 'Default 7 days.' }),
    })
    .meta({ id: 'ClaimLinkRequest' }),
  bodyOptional: true,
  responses: {
    201: {
      description: 'The link.',
      body: z
        .object({
          event_id: z.string(),
          object_id: z.string(),
          token: z.string(),
          path: z.string().meta({ description: 'Where a signed-in user posts to.' }),
          url: z.string().meta({ description: 'The page to send to the buyer.' }),
          expires_at: timestampSchema,
        })
        .meta({ id: 'ClaimLink' }),
    },
  },
  errors: ['not_found', 'dependency_down'],
});

export const redeemClaim = declareRoute({
  id: 'redeemClaim',
  method: 'post',
  path: '/api/claims/:token',
  tag: 'Checkout',
  summary: 'Take over a purchase by its one-time link',
  auth: 'user',
  params: z.strictObject({
    token: z.string().regex(/^[\w-]{20,100}$/, 'must be the token of a claim link'),
  }),
  query: z.strictObject({}),
  body: z.strictObject({}),
  bodyOptional: true,
  responses: {
    200: { description: 'The claim; the credits follow in seconds.', body: claimSchema },
  },
  errors: ['forbidden', 'not_found', 'user_not_found', 'dependency_down'],
});
