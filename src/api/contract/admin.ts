import { z } from 'zod';
import {
  checkRange,
  transactionPageSchema,
  transactionSchema,
  transactionsQuery,
} from './credits.ts';
import { declareRoute } from './declareRoute.ts';
import { explainQuery, explanationSchema } from './explain.ts';
import { holdDetailsSchema } from './holds.ts';
import {
  cursorSchema,
  instantSchema,
  integerParameter,
  text,
  timestampSchema,
  userIdSchema,
} from './primitives.ts';
import { eventSummarySchema } from './webhookLog.ts';

const PAGE_MAX = 100;
const SEARCH_LENGTH_MAX = 255;
const FILTER = /^[\w:.@+-]{1,255}\*?$/;

const pageOf = <Row extends z.ZodType>(row: Row) =>
  z.object({ data: z.array(row), has_more: z.boolean(), next_cursor: z.string().nullable() });

const paging = { cursor: cursorSchema.optional(), limit: integerParameter(1, PAGE_MAX).optional() };
const ofUser = z.strictObject({ userId: userIdSchema });

const deductionSchema = z.object({
  code: z.string(),
  points: z.int(),
  severity: z.enum(['critical', 'warning', 'info']),
  detail: z.string().meta({ description: 'What was seen, and what it should be.' }),
  link: z.string().meta({ description: 'Page of the dashboard where one goes on.' }),
});

export const getSubscriptionHealth = declareRoute({
  id: 'getSubscriptionHealth',
  method: 'get',
  path: '/api/admin/stripe/subscription-health',
  tag: 'Admin',
  summary: 'How well the installation is, from 0 to 100',
  description:
    'Looks now. Every point that is missing is a deduction with its reason and the page where one goes on.',
  auth: 'admin',
  query: z.strictObject({}),
  responses: {
    200: {
      description: 'The score and what it is made of.',
      body: z
        .object({
          health_score: z.int(),
          status: z
            .enum(['healthy', 'degraded', 'critical'])
            .meta({ description: '`healthy` from 80, `degraded` from 50.' }),
          failed_webhooks: z.int().meta({ description: 'Waiting for another attempt.' }),
          dead_letters: z.int(),
          parked_events: z.int(),
          unprocessed_events: z.int(),
          oldest_unprocessed_seconds: z
            .int()
            .meta({ description: 'How long the oldest event that is due has waited.' }),
          webhook_success_rate: z
            .number()
            .meta({ description: 'Of the last 24 hours, 0 to 1; 1 without events.' }),
          missing_purchase_records: z.int(),
          orphaned_purchases: z.int(),
          drifted_users: z.int(),
          open_findings: z.int(),
          mirror_lag_seconds: z.int().nullable().meta({
            description: 'Age of the oldest change that Redis may lack; null: it does not answer.',
          }),
          last_reconciliation: z
            .object({
              id: z.string(),
              finished_at: timestampSchema,
              findings: z.int(),
              repaired: z.int(),
            })
            .nullable(),
          overdue_jobs: z.array(z.string()),
          failed_jobs: z.array(z.string()),
          undelivered_notifications: z.int(),
          open_dunning_cases: z.int(),
          overdue_dunning_steps: z.int(),
          deductions: z.array(deductionSchema).meta({ description: 'The most costly first.' }),
          checked_at: timestampSchema,
        })
        .meta({ id: 'SubscriptionHealth' }),
    },
  },
  errors: ['dependency_down'],
});

export const listAuditEvents = declareRoute({
  id: 'listAuditEvents',
  method: 'get',
  path: '/api/admin/audit',
  tag: 'Admin',
  summary: 'Who did what, newest first',
  auth: 'admin',
  query: z
    .strictObject({
      actor: z
        .string('must be given once')
        .regex(FILTER, 'must be an actor such as admin:1a2b3c4d, or its beginning and *')
        .optional()
        .meta({ description: 'Exactly; with * at the end, whatever begins with it.' }),
      action: z
        .string('must be given once')
        .regex(FILTER, 'must be an action such as adjust_credits, or its beginning and *')
        .optional()
        .meta({ description: 'Exactly; with * at the end, whatever begins with it.' }),
      user_id: userIdSchema.optional(),
      from: instantSchema.optional().meta({ description: 'Written at or after.' }),
      to: instantSchema.optional().meta({ description: 'Written before.' }),
      ...paging,
    })
    .superRefine(checkRange),
  responses: {
    200: {
      description: 'A page of the audit log.',
      body: pageOf(
        z.object({
          id: z.string(),
          actor: z.string(),
          action: z.string(),
          user_id: z.string().nullable(),
          reason: z.string().nullable(),
          before: z.unknown(),
          after: z.unknown(),
          created_at: timestampSchema,
        }),
      ).meta({ id: 'AuditPage' }),
    },
  },
  errors: ['dependency_down'],
});

export const searchUsers = declareRoute({
  id: 'searchUsers',
  method: 'get',
  path: '/api/admin/users',
  tag: 'Admin',
  summary: 'Find users',
  auth: 'admin',
  query: z.strictObject({
    q: text(SEARCH_LENGTH_MAX).min(1, 'must not be empty').optional().meta({
      description: 'The beginning of an id or e-mail address, or a Stripe customer. Left out: all.',
    }),
    ...paging,
  }),
  responses: {
    200: {
      description: 'A page of users, by id.',
      body: pageOf(
        z.object({
          user_id: z.string(),
          email: z.string().nullable(),
          plan: z.string(),
          stripe_customer_id: z.string().nullable(),
          balance: z.int(),
          available: z.int(),
          suspended: z.boolean(),
        }),
      ).meta({ id: 'UserPage' }),
    },
  },
  errors: ['dependency_down'],
});

export const getAdminUser = declareRoute({
  id: 'getAdminUser',
  method: 'get',
  path: '/api/admin/users/:userId',
  tag: 'Admin',
  summary:
    'One user: ledger and mirror beside each other, lots, holds, entries, payments, findings',
  description:
    'Nothing is asked of Stripe; `/api/admin/stripe/check-user/{userId}` compares with what Stripe says. Closed accounts are found.',
  auth: 'admin',
  params: ofUser,
  query: z.strictObject({}),
  responses: {
    200: {
      description: 'The user.',
      body: z
        .object({
          profile: z.object({
            user_id: z.string(),
            email: z.string().nullable(),
            plan: z.string(),
            stripe_customer_id: z.string().nullable(),
            customers: z.array(z.string()),
            suspended: z.boolean(),
            closed: z.boolean(),
          }),
          ledger: z.object({
            balance: z.int(),
            held: z.int(),
            debt: z.int(),
            available: z.int(),
            version: z.int(),
            entries: z.int(),
            due: z.boolean().meta({
              description:
                'Lots or holds have ended that the next call takes; they still count here.',
            }),
          }),
          mirror: z.object({
            state: z.enum(['equal', 'behind', 'ahead', 'foreign', 'missing', 'unreachable']),
            version: z.int().nullable(),
            balance: z.int().nullable(),
            available: z.int().nullable(),
            valid_until: timestampSchema.nullable(),
          }),
          subscriptions: z.array(
            z.object({
              stripe_subscription_id: z.string(),
              status: z.string(),
              plan: z.string().nullable(),
              stripe_customer_id: z.string().nullable(),
              current_period_start: timestampSchema.nullable(),
              current_period_end: timestampSchema.nullable(),
              cancel_at_period_end: z.boolean(),
              as_of: timestampSchema,
            }),
          ),
          lots: z
            .array(
              z.object({
                grant_id: z.string(),
                amount: z.int(),
                remaining: z.int(),
                paid: z.boolean(),
                from_plan: z.boolean(),
                priority: z.int(),
                catalogue_id: z.string().nullable(),
                expires_at: timestampSchema.nullable(),
                created_at: timestampSchema,
              }),
            )
            .meta({ description: 'Open ones in the order they are spent, 100 at most.' }),
          holds: z.array(holdDetailsSchema).meta({ description: 'Open ones, 50 at most.' }),
          recent_entries: z.array(transactionSchema).meta({ description: 'The newest 20.' }),
          payments: z
            .array(
              z.object({
                payment: z.string(),
                currency: z.string().nullable(),
                paid: z.int(),
                refunded: z.int(),
                disputed: z.int(),
                status: z.string().nullable(),
                entry_number: z.int().nullable(),
                updated_at: timestampSchema,
              }),
            )
            .meta({ description: 'The newest 20.' }),
          open_findings: z.array(
            z.object({
              id: z.string(),
              code: z.string(),
              subject: z.string(),
              detail: z.unknown(),
              times: z.int(),
              first_seen_at: timestampSchema,
              last_seen_at: timestampSchema,
            }),
          ),
          waiting_events: z
            .array(eventSummarySchema)
            .meta({ description: 'Parked events that wait for this user.' }),
          as_of: timestampSchema,
        })
        .meta({ id: 'AdminUser' }),
    },
  },
  errors: ['user_not_found', 'dependency_down'],
});

export const listAdminUserTransactions = declareRoute({
  id: 'listAdminUserTransactions',
  method: 'get',
  path: '/api/admin/users/:userId/transactions',
  tag: 'Admin',
  summary: 'The entries of a user, newest first',
  auth: 'admin',
  params: ofUser,
  query: transactionsQuery,
  responses: { 200: { description: 'A page.', body: transactionPageSchema } },
  errors: ['user_not_found', 'dependency_down'],
});

export const explainAdminUser = declareRoute({
  id: 'explainAdminUser',
  method: 'get',
  path: '/api/admin/users/:userId/explain',
  tag: 'Admin',
  summary: 'How a user’s balance came about, for operators',
  auth: 'admin',
  params: ofUser,
  query: explainQuery,
  responses: { 200: { description: 'The explanation.', body: explanationSchema } },
  errors: ['user_not_found', 'dependency_down'],
});
