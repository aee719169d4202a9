import { z } from 'zod';
import { declareRoute } from './declareRoute.ts';
import { cursorSchema, integerParameter, timestampSchema, userIdSchema } from './primitives.ts';

const PAGE_MAX = 100;
const NOTIFICATION_STATUSES = [
  'queued',
  'leased',
  'sent',
  'kept',
  'failed',
  'dead',
  'dropped',
] as const;

const record = {
  id: z.string(),
  key: z.string().meta({ description: 'Names the cause; the same cause is one message.' }),
  kind: z.string(),
  user_id: z.string().nullable(),
  to: z.string().nullable(),
  subject: z.string().nullable(),
  status: z.enum(NOTIFICATION_STATUSES).meta({
    description:
      '`kept`: written here, since no transport is set. `dead`: given up. `dropped`: no address, switched off, or its cause has gone.',
  }),
  attempts: z.int(),
  transport: z.string().nullable(),
  provider_id: z.string().nullable(),
  error: z.string().nullable().meta({ description: 'Why the last attempt failed, or why not.' }),
  next_attempt_at: timestampSchema.nullable(),
  sent_at: timestampSchema.nullable(),
  forgotten_at: timestampSchema.nullable().meta({
    description: 'When its address and data were taken out, for its age.',
  }),
  created_at: timestampSchema,
};

const recordSchema = z.object(record).meta({ id: 'Notification' });

const mailSchema = z
  .object({ subject: z.string(), html: z.string(), text: z.string() })
  .meta({ id: 'Mail' });

const params = z.strictObject({
  id: z.string().regex(/^[1-9]\d{0,17}$/, 'must be the id of a notification'),
});

export const listNotifications = declareRoute({
  id: 'listNotifications',
  method: 'get',
  path: '/api/admin/notifications',
  tag: 'Admin',
  summary: 'E-mails and alerts, newest first',
  auth: 'admin',
  query: z.strictObject({
    status: z
      .enum(NOTIFICATION_STATUSES, `must be one of ${NOTIFICATION_STATUSES.join(', ')}`)
      .optional(),
    kind: z
      .string()
      .regex(/^[a-z_]{1,40}$/, 'must be a kind such as purchase_receipt')
      .optional(),
    user_id: userIdSchema.optional(),
    cursor: cursorSchema.optional(),
    limit: integerParameter(1, PAGE_MAX).optional(),
  }),
  responses: {
    200: {
      description: 'A page of messages.',
      body: z
        .object({
          data: z.array(recordSchema),
          has_more: z.boolean(),
          next_cursor: z.string().nullable(),
        })
        .meta({ id: 'NotificationPage' }),
    },
  },
  errors: ['dependency_down'],
});

export const getNotification = declareRoute({
  id: 'getNotification',
  method: 'get',
  path: '/api/admin/notifications/:id',
  tag: 'Admin',
  summary: 'One message, as it reads',
  auth: 'admin',
  params,
  query: z.strictObject({}),
  responses: {
    200: {
      description: 'The message.',
      body: z
        .object({
          ...record,
          data: z.record(z.string(), z.unknown()),
          mail: mailSchema.nullable(),
          problem: z.string().nullable().meta({ description: 'Why it cannot be rendered.' }),
        })
        .meta({ id: 'NotificationDetail' }),
    },
  },
  errors: ['not_found', 'dependency_down'],
});

export const retryNotification = declareRoute({
  id: 'retryNotification',
  method: 'post',
  path: '/api/admin/notifications/:id/retry',
  tag: 'Admin',
  summary: 'Send a message that was not sent',
  description:
    'It gets all its attempts again. One that was sent goes to nobody twice; one whose data was taken out for its age cannot be sent.',
  auth: 'admin',
  params,
  query: z.strictObject({}),
  body: z.strictObject({}),
  bodyOptional: true,
  responses: { 200: { description: 'Queued.', body: recordSchema } },
  errors: ['not_found', 'in_progress', 'dependency_down'],
});

export const previewMail = declareRoute({
  id: 'previewMail',
  method: 'get',
  path: '/api/admin/notifications/samples/:name',
  tag: 'Admin',
  summary: 'A mail with made-up data',
  auth: 'admin',
  params: z.strictObject({
    name: z.string().regex(/^[a-z_]{1,40}$/, 'must be the name of a sample'),
  }),
  query: z.strictObject({}),
  responses: { 200: { description: 'The mail.', body: mailSchema } },
  errors: ['not_found'],
});

export const listAlerts = declareRoute({
  id: 'listAlerts',
  method: 'get',
  path: '/api/admin/alerts',
  tag: 'Admin',
  summary: 'What operators were told of: open alerts first, then the newest',
  auth: 'admin',
  query: z.strictObject({
    status: z.enum(['open', 'resolved'], 'must be open or resolved').optional(),
    limit: integerParameter(1, PAGE_MAX).optional(),
  }),
  responses: {
    200: {
      description: 'Alerts.',
      body: z.object({
        data: z.array(
          z
            .object({
              id: z.string(),
              code: z.string(),
              subject: z.string(),
              severity: z.enum(['critical', 'warning']),
              title: z.string(),
              detail: z.string(),
              link: z.string().nullable(),
              status: z.enum(['open', 'resolved']),
              times: z.int().meta({ description: 'How often it was seen.' }),
              opened_at: timestampSchema,
              last_seen_at: timestampSchema,
              resolved_at: timestampSchema.nullable(),
            })
            .meta({ id: 'Alert' }),
        ),
      }),
    },
  },
  errors: ['dependency_down'],
});
