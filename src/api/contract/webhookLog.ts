import { z } from 'zod';
import { declareRoute } from './declareRoute.ts';
import { cursorSchema, integerParameter, text, timestampSchema } from './primitives.ts';

const PAGE_MAX = 100;

export const eventIdSchema = z
  .string()
  .regex(/^\w{1,255}$/, 'must be the id of an event (evt_...)');

export const eventTypeSchema = z
  .string()
  .regex(/^[a-z0-9_.]{1,100}$/, 'must be an event type such as checkout.session.completed');

const causeSchema = z.enum(['transient', 'permanent']);

const summary = {
  event_id: z.string(),
  event_type: z.string(),
  object_id: z.string().nullable(),
  status: z.enum([
    'logged',
    'received',
    'leased',
    'failed',
    'parked',
    'processed',
    'ignored',
    'dead',
  ]),
  error: z.string().nullable().meta({ description: 'What the last attempt failed with.' }),
  reason: z.string().nullable().meta({ description: 'Why it is ignored, or what it waits for.' }),
  covered_by: z.string().nullable().meta({
    description:
      'The event whose worker read the object after this one came, and so knew what it tells.',
  }),
  error_code: z.string().nullable(),
  cause: causeSchema.nullable(),
  waiting_for: z.string().nullable(),
  retry_count: z.int(),
  next_attempt_at: timestampSchema.nullable(),
  event_created_at: timestampSchema.nullable(),
  received_at: timestampSchema,
  ended_at: timestampSchema.nullable(),
};

export const eventSummarySchema = z.object(summary).meta({ id: 'WebhookLogEntry' });

const page = z
  .object({
    data: z.array(eventSummarySchema),
    has_more: z.boolean(),
    next_cursor: z.string().nullable(),
  })
  .meta({ id: 'WebhookLogPage' });

const paging = {
  type: eventTypeSchema.optional(),
  q: text(255).min(1, 'must not be empty').optional().meta({
    description: 'Id of an event, object, user or customer; or a part of an error’s text.',
  }),
  cursor: cursorSchema.optional(),
  limit: integerParameter(1, PAGE_MAX).optional(),
};

export const listWebhookLogs = declareRoute({
  id: 'listWebhookLogs',
  method: 'get',
  path: '/api/admin/stripe/webhook-logs',
  tag: 'Admin',
  summary: 'The events that were received, newest first',
  auth: 'admin',
  query: z.strictObject({
    status: z
      .enum(summary.status.options, `must be one of ${summary.status.options.join(', ')}`)
      .optional(),
    ...paging,
  }),
  responses: { 200: { description: 'A page of events.', body: page } },
  errors: ['dependency_down'],
});

export const listParkedEvents = declareRoute({
  id: 'listParkedEvents',
  method: 'get',
  path: '/api/admin/stripe/parked',
  tag: 'Admin',
  summary: 'Events that wait for their user',
  description: 'They resolve by themselves when the user appears, or by a claim.',
  auth: 'admin',
  query: z.strictObject(paging),
  responses: { 200: { description: 'A page of parked events.', body: page } },
  errors: ['dependency_down'],
});

export const getWebhookLog = declareRoute({
  id: 'getWebhookLog',
  method: 'get',
  path: '/api/admin/stripe/webhook-logs/:eventId',
  tag: 'Admin',
  summary: 'One event with its payload, attempts, entries, and its object’s other events',
  auth: 'admin',
  params: z.strictObject({ eventId: eventIdSchema }),
  query: z.strictObject({}),
  responses: {
    200: {
      description: 'The event.',
      body: z
        .object({
          ...summary,
          payload: z.unknown(),
          attempts: z
            .array(
              z.object({
                at: timestampSchema,
                code: z.string(),
                cause: causeSchema,
                error: z.string(),
              }),
            )
            .meta({ description: 'The last 20 that failed, oldest first.' }),
          entries: z
            .array(
              z.object({
                transaction_id: z.string(),
                user_id: z.string(),
                transaction_type: z.string(),
                amount: z.int(),
                created_at: timestampSchema,
              }),
            )
            .meta({ description: 'What the event wrote to the ledger.' }),
          object_events: z.array(eventSummarySchema),
        })
        .meta({ id: 'WebhookLogDetail' }),
    },
  },
  errors: ['not_found', 'dependency_down'],
});

export const listDeadLetters = declareRoute({
  id: 'listDeadLetters',
  method: 'get',
  path: '/api/admin/stripe/dead-letters',
  tag: 'Admin',
  summary: 'Events that were given up, by cause',
  auth: 'admin',
  query: z.strictObject({}),
  responses: {
    200: {
      description: 'Groups, the most frequent first.',
      body: z
        .object({
          total: z.int(),
          groups: z.array(
            z.object({
              error_code: z.string(),
              cause: causeSchema.meta({
                description:
                  '`transient` passes by itself; `permanent` wants a change at Stripe, in the settings or in Purser.',
              }),
              event_type: z.string(),
              events: z.int(),
              oldest: timestampSchema,
              newest: timestampSchema,
              last_error: z.string().nullable(),
              event_ids: z.array(z.string()).meta({ description: 'The 20 oldest.' }),
            }),
          ),
        })
        .meta({ id: 'DeadLetters' }),
    },
  },
  errors: ['dependency_down'],
});
