import { z } from 'zod';
import { declareRoute } from './declareRoute.ts';
import {
  cursorSchema,
  instantSchema,
  integerParameter,
  text,
  timestampSchema,
  userIdSchema,
} from './primitives.ts';

const PAGE_MAX = 100;
/** Each costs several calls of Stripe. */
const PREVIEW_MAX = 50;
const REASON_LENGTH_MAX = 500;

const STATES = ['open', 'paused', 'canceling', 'recovered', 'canceled', 'closed'] as const;

const stepSchema = z
  .object({
    step: z.int(),
    day: z.int().meta({ description: 'Counted from the first failure.' }),
    action: z.enum(['mail', 'cancel']),
    urgency: z.enum(['first', 'second', 'final']).nullable(),
    due_at: timestampSchema,
    state: z.enum(['waiting', 'done', 'skipped']),
    done_at: timestampSchema.nullable(),
    note: z.string().nullable(),
  })
  .meta({ id: 'DunningStep' });

const dunningCase = {
  case_id: z.string(),
  user_id: z.string(),
  invoice_id: z.string(),
  subscription_id: z.string(),
  customer_id: z.string().nullable(),
  state: z.enum(STATES),
  resolution: z.string().nullable().meta({ description: 'Why it ended.' }),
  failed_at: timestampSchema.meta({ description: 'Day 0: when Stripe first tried to collect.' }),
  steps: z.array(stepSchema),
  next_step: z.int().nullable(),
  due_at: timestampSchema.nullable(),
  postponed_because: z.string().nullable(),
  postponements: z.int(),
  plan_name: z.string().nullable(),
  invoice_number: z.string().nullable(),
  invoice_url: z.string().nullable(),
  amount: z.int().meta({ description: 'What is left to pay, in the smallest unit.' }),
  currency: z.string(),
  attempt_count: z.int(),
  next_payment_attempt: timestampSchema.nullable(),
  seen_at: timestampSchema.meta({ description: 'When Stripe was last asked.' }),
  failed_attempts: z.int(),
  error: z.string().nullable(),
  paused_at: timestampSchema.nullable(),
  paid_at: timestampSchema.nullable(),
  ended_at: timestampSchema.nullable(),
  opened_at: timestampSchema,
};

const caseSchema = z.object(dunningCase).meta({ id: 'DunningCase' });

const caseParams = z.strictObject({
  caseId: z.string().regex(/^\d{1,18}$/, 'must be the number of a dunning case'),
});

export const listDunningCases = declareRoute({
  id: 'listDunningCases',
  method: 'get',
  path: '/api/admin/dunning',
  tag: 'Admin',
  summary: 'Invoices that could not be collected, newest first',
  auth: 'admin',
  query: z.strictObject({
    state: z
      .enum(['active', ...STATES], `must be one of active, ${STATES.join(', ')}`)
      .optional()
      .meta({ description: '`active`: open, paused or canceling.' }),
    user_id: userIdSchema.optional(),
    cursor: cursorSchema.optional(),
    limit: integerParameter(1, PAGE_MAX).optional(),
  }),
  responses: {
    200: {
      description: 'A page of cases.',
      body: z
        .object({
          data: z.array(caseSchema),
          has_more: z.boolean(),
          next_cursor: z.string().nullable(),
        })
        .meta({ id: 'DunningPage' }),
    },
  },
  errors: ['dependency_down'],
});

export const getDunningSummary = declareRoute({
  id: 'getDunningSummary',
  method: 'get',
  path: '/api/admin/dunning/summary',
  tag: 'Admin',
  summary: 'How dunning stands',
  auth: 'admin',
  query: z.strictObject({}),
  responses: {
    200: {
      description: 'Cases by state, steps that are overdue, and rates.',
      body: z
        .object({
          open: z.int(),
          paused: z.int(),
          canceling: z.int(),
          recovered: z.int(),
          canceled: z.int(),
          closed: z.int(),
          overdue_steps: z.int().meta({ description: 'Due for more than 15 minutes.' }),
          oldest_overdue_seconds: z.int(),
          failing_steps: z.int(),
          completion_rate: z.number().nullable().meta({ description: 'Ended, of all.' }),
          recovery_rate: z
            .number()
            .nullable()
            .meta({ description: 'Paid, of those paid or canceled.' }),
        })
        .meta({ id: 'DunningSummary' }),
    },
  },
  errors: ['dependency_down'],
});

export const previewDunning = declareRoute({
  id: 'previewDunning',
  method: 'get',
  path: '/api/admin/dunning/preview',
  tag: 'Admin',
  summary: 'What the job would do, and why',
  description:
    'A dry run: asks Stripe about every case that is due and writes nothing. With `at`, those that will be due then, by what Stripe says now.',
  auth: 'admin',
  query: z.strictObject({
    at: instantSchema.optional(),
    limit: integerParameter(1, PREVIEW_MAX).optional(),
  }),
  responses: {
    200: {
      description: 'The most overdue first.',
      body: z
        .object({
          at: timestampSchema,
          cases: z.array(
            z.object({
              case_id: z.string(),
              user_id: z.string(),
              invoice_id: z.string(),
              subscription_id: z.string(),
              due_at: timestampSchema.nullable(),
              step: stepSchema.nullable(),
              decision: z
                .object({
                  action: z.enum(['settle', 'mail', 'postpone', 'keep', 'cancel']),
                  reason: z.string(),
                  until: timestampSchema.optional(),
                })
                .nullable(),
              error: z.string().nullable(),
            }),
          ),
        })
        .meta({ id: 'DunningPreview' }),
    },
  },
  errors: ['dependency_down'],
});

export const getDunningCase = declareRoute({
  id: 'getDunningCase',
  method: 'get',
  path: '/api/admin/dunning/:caseId',
  tag: 'Admin',
  summary: 'One case with its history and mails',
  auth: 'admin',
  params: caseParams,
  query: z.strictObject({}),
  responses: {
    200: {
      description: 'The case.',
      body: z
        .object({
          ...dunningCase,
          history: z
            .array(
              z.object({
                actor: z.string(),
                action: z.string(),
                reason: z.string().nullable(),
                before: z.record(z.string(), z.unknown()).nullable(),
                after: z.record(z.string(), z.unknown()).nullable(),
                created_at: timestampSchema,
              }),
            )
            .meta({ description: 'What was done to it and by whom, oldest first.' }),
          mails: z.array(
            z.object({
              key: z.string(),
              kind: z.string(),
              status: z.string(),
              created_at: timestampSchema,
              sent_at: timestampSchema.nullable(),
            }),
          ),
        })
        .meta({ id: 'DunningDetail' }),
    },
  },
  errors: ['not_found', 'dependency_down'],
});

const changeBody = z
  .strictObject({ reason: text(REASON_LENGTH_MAX).trim().min(1, 'must say why') })
  .meta({ id: 'DunningChangeRequest' });

function declareChange<const Id extends string>(
  action: 'pause' | 'resume' | 'skip' | 'close',
  id: Id,
  summary: string,
  description: string,
) {
  return declareRoute({
    id,
    method: 'post',
    path: `/api/admin/dunning/:caseId/${action}`,
    tag: 'Admin',
    summary,
    description: `${description} Audited.`,
    auth: 'admin',
    params: caseParams,
    query: z.strictObject({}),
    body: changeBody,
    responses: { 200: { description: 'The case as it is now.', body: caseSchema } },
    errors: ['not_found', 'in_progress', 'dependency_down'],
  });
}

export const pauseDunning = declareChange(
  'pause',
  'pauseDunning',
  'Hold the steps of a case back',
  'A payment still ends it.',
);

export const resumeDunning = declareChange(
  'resume',
  'resumeDunning',
  'Let a case go on',
  'The steps go on where they stopped; the time of the pause is not counted.',
);

export const skipDunningStep = declareChange(
  'skip',
  'skipDunningStep',
  'Leave out the next step',
  'Each call leaves out one more. Without its last step a case only waits for its end.',
);

export const closeDunning = declareChange(
  'close',
  'closeDunning',
  'End a case',
  'Neither mails nor a cancellation follow. It does not begin again for this invoice.',
);
