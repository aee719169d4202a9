import { z } from 'zod';
import { declareRoute } from './declareRoute.ts';
import {
  instantSchema,
  integerParameter,
  text,
  timestampSchema,
  userIdSchema,
} from './primitives.ts';

const REASON_LENGTH_MAX = 500;
const PAGE_MAX = 100;

const runIdSchema = z.string().regex(/^r_\d{1,18}$/, 'must be the id of a run (r_1)');
const findingIdSchema = z.string().regex(/^\d{1,18}$/, 'must be the id of a finding');
const reasonSchema = text(REASON_LENGTH_MAX).trim().min(1, 'must say why');
const loose = z.record(z.string(), z.unknown());

const repairSchema = z
  .object({
    kind: z.string().meta({ description: 'For programs.' }),
    sentence: z.string(),
    command: z.string().nullable().meta({
      description: 'To be run as it is, with PUBLIC_URL and PURSER_ADMIN_KEY set.',
    }),
  })
  .meta({ id: 'Repair' });

const differenceSchema = z
  .object({
    code: z.string(),
    subject: z.string(),
    user_id: z.string().nullable(),
    detail: loose,
    repair: repairSchema,
    outcome: z.enum(['repaired', 'would_repair', 'open', 'seen', 'accepted']).meta({
      description:
        '`would_repair`: in a dry run. `open`: for a person, found now; `seen`: open since before; `accepted`: a person has said that it is well so.',
    }),
  })
  .meta({ id: 'Difference' });

const progressSchema = z
  .object({
    stage: z.string().nullable(),
    after: z.string().nullable(),
    stages: z.record(
      z.string(),
      z.object({
        from: timestampSchema,
        pages: z.int(),
        objects: z.int(),
        oldest_unsettled: timestampSchema.nullable(),
        done: z.boolean(),
      }),
    ),
  })
  .partial()
  .meta({ id: 'ReconciliationProgress' });

const counts = {
  objects: z.int().meta({ description: 'Objects compared.' }),
  stripe_calls: z.int(),
  findings: z
    .int()
    .meta({ description: 'Differences first seen by this run, repaired ones included.' }),
  repaired: z.int(),
  still_open: z.int().meta({ description: 'Differences found before and open still.' }),
};

const runSchema = z
  .object({
    id: z.string(),
    status: z.enum(['running', 'paused', 'done', 'canceled']),
    actor: z.string(),
    since: timestampSchema.nullable(),
    compared_until: timestampSchema,
    progress: progressSchema,
    ...counts,
    error: z.string().nullable(),
    started_at: timestampSchema,
    updated_at: timestampSchema,
    finished_at: timestampSchema.nullable(),
  })
  .meta({ id: 'ReconciliationRun' });

const findingSchema = z
  .object({
    id: z.string(),
    code: z.string(),
    subject: z.string(),
    user_id: z.string().nullable(),
    status: z.enum(['open', 'resolved']),
    detail: loose,
    repair: repairSchema.nullable(),
    times: z.int(),
    run_id: z.string().nullable(),
    first_seen_at: timestampSchema,
    last_seen_at: timestampSchema,
    resolved_at: timestampSchema.nullable(),
    resolved_by: z.string().nullable(),
    resolution: z.string().nullable(),
  })
  .meta({ id: 'Finding' });

export const reconcileStripe = declareRoute({
  id: 'reconcileStripe',
  method: 'post',
  path: '/api/admin/stripe/reconcile',
  tag: 'Admin',
  summary: 'Compare Stripe with the ledger and Redis, and repair',
  description:
    'Goes on where the last run ended, or begins at `since`; an interrupted run is gone on with. Works for at most 20 seconds: `outcome: paused` means that the job goes on with it. A dry run writes nothing at all, and is not gone on with.',
  auth: 'admin',
  query: z.strictObject({}),
  body: z
    .strictObject({ since: instantSchema.optional(), dry_run: z.boolean().optional() })
    .meta({ id: 'ReconcileRequest' }),
  bodyOptional: true,
  responses: {
    200: {
      description: 'What was compared.',
      body: z
        .object({
          outcome: z.enum(['done', 'paused', 'busy', 'nothing_to_resume']),
          dry_run: z.boolean(),
          run_id: z.string().nullable(),
          since: timestampSchema.nullable(),
          compared_until: timestampSchema.nullable(),
          progress: progressSchema.nullable(),
          ...counts,
          paused_because: z.string().nullable(),
          differences: z.array(differenceSchema).meta({ description: 'The first 200.' }),
        })
        .meta({ id: 'ReconciliationAnswer' }),
    },
  },
  errors: ['dependency_down'],
});

export const getReconciliationState = declareRoute({
  id: 'getReconciliationState',
  method: 'get',
  path: '/api/admin/stripe/reconciliation',
  tag: 'Admin',
  summary: 'How clean the books are',
  description: '`clean_as_of`: all that Stripe had made until then agrees, or is repaired.',
  auth: 'admin',
  query: z.strictObject({ user_id: userIdSchema.optional() }),
  responses: {
    200: {
      description: 'Overall, or of one user.',
      body: z
        .object({
          clean_as_of: timestampSchema.nullable(),
          compared_until: timestampSchema.nullable(),
          open_findings: z.int(),
          open_by_code: z.record(z.string(), z.int()),
          cursors: z.record(
            z.string(),
            z.object({ position: timestampSchema, compared_until: timestampSchema.nullable() }),
          ),
          last_reconciliation: z
            .object({
              id: z.string(),
              finished_at: timestampSchema,
              findings: z.int(),
              repaired: z.int(),
            })
            .nullable(),
        })
        .meta({ id: 'ReconciliationState' }),
    },
  },
  errors: ['dependency_down'],
});

export const listReconciliations = declareRoute({
  id: 'listReconciliations',
  method: 'get',
  path: '/api/admin/stripe/reconciliations',
  tag: 'Admin',
  summary: 'The last 50 runs, newest first',
  auth: 'admin',
  query: z.strictObject({}),
  responses: { 200: { description: 'Runs.', body: z.object({ data: z.array(runSchema) }) } },
  errors: ['dependency_down'],
});

export const getReconciliation = declareRoute({
  id: 'getReconciliation',
  method: 'get',
  path: '/api/admin/stripe/reconciliations/:runId',
  tag: 'Admin',
  summary: 'How far a run is',
  auth: 'admin',
  params: z.strictObject({ runId: runIdSchema }),
  query: z.strictObject({}),
  responses: { 200: { description: 'The run.', body: runSchema } },
  errors: ['not_found', 'dependency_down'],
});

export const listFindings = declareRoute({
  id: 'listFindings',
  method: 'get',
  path: '/api/admin/findings',
  tag: 'Admin',
  summary: 'What does not fit, newest first, each with a proposed repair',
  auth: 'admin',
  query: z.strictObject({
    status: z.enum(['open', 'resolved'], 'must be open or resolved').optional(),
    code: z
      .string()
      .regex(/^\w{1,100}$/, 'must be the code of a finding')
      .optional(),
    user_id: userIdSchema.optional(),
    run_id: runIdSchema.optional(),
    cursor: findingIdSchema.optional(),
    limit: integerParameter(1, PAGE_MAX).optional(),
  }),
  responses: {
    200: {
      description: 'A page.',
      body: z.object({
        data: z.array(findingSchema),
        has_more: z.boolean(),
        next_cursor: z.string().nullable(),
      }),
    },
  },
  errors: ['dependency_down'],
});

const findingParams = z.strictObject({ findingId: findingIdSchema });

export const getFinding = declareRoute({
  id: 'getFinding',
  method: 'get',
  path: '/api/admin/findings/:findingId',
  tag: 'Admin',
  summary: 'One finding',
  auth: 'admin',
  params: findingParams,
  query: z.strictObject({}),
  responses: { 200: { description: 'The finding.', body: findingSchema } },
  errors: ['not_found', 'dependency_down'],
});

export const resolveFinding = declareRoute({
  id: 'resolveFinding',
  method: 'post',
  path: '/api/admin/findings/:findingId/resolve',
  tag: 'Admin',
  summary: 'Say why a finding is well as it is, or what was done',
  description:
    'Audited. The same state is not found again; one that is resolved stays as it was resolved.',
  auth: 'admin',
  params: findingParams,
  query: z.strictObject({}),
  body: z.strictObject({ reason: reasonSchema }).meta({ id: 'ResolveFindingRequest' }),
  responses: { 200: { description: 'The finding.', body: findingSchema } },
  errors: ['not_found', 'dependency_down'],
});

export const checkUser = declareRoute({
  id: 'checkUser',
  method: 'get',
  path: '/api/admin/stripe/check-user/:userId',
  tag: 'Admin',
  summary: 'Stripe, ledger and mirror of a user side by side',
  description: 'Writes nothing.',
  auth: 'admin',
  params: z.strictObject({ userId: userIdSchema }),
  query: z.strictObject({}),
  responses: {
    200: {
      description: 'Both sides of each object, and what differs.',
      body: z
        .object({
          user_id: z.string(),
          clean: z.boolean(),
          clean_as_of: timestampSchema.nullable(),
          stripe: z.object({
            customers: z.array(z.string()),
            sessions: z.int(),
            invoices: z.int(),
            subscriptions: z.int(),
          }),
          ledger: z.object({
            email: z.string().nullable(),
            balance: z.int(),
            held: z.int(),
            debt: z.int(),
            version: z.int(),
            plan: z.string(),
            suspended: z.boolean(),
            entries: z.int(),
          }),
          mirror: loose.nullable(),
          mirror_agrees: z.boolean().meta({
            description: 'Also where there is no copy: its readers ask the ledger.',
          }),
          objects: z.array(
            z.object({
              subject: z.string(),
              stripe: loose.nullable(),
              ledger: loose.nullable(),
              agrees: z.boolean(),
            }),
          ),
          differences: z.array(differenceSchema),
          open_findings: z.array(findingSchema),
          stripe_calls: z.int(),
          checked_at: timestampSchema,
        })
        .meta({ id: 'UserCheck' }),
    },
  },
  errors: ['user_not_found', 'dependency_down'],
});

const standing = z.object({ balance: z.int(), version: z.int() });

export const fixUser = declareRoute({
  id: 'fixUser',
  method: 'post',
  path: '/api/admin/stripe/fix-user/:userId',
  tag: 'Admin',
  summary: 'Repair what differs for a user',
  description:
    'Grants what is missing under its own keys, takes Stripe’s state over, writes the mirror anew; audited with the reason. With `stripe_subscription_id` its customer becomes this user’s first, where it is nobody’s.',
  auth: 'admin',
  params: z.strictObject({ userId: userIdSchema }),
  query: z.strictObject({}),
  body: z
    .strictObject({
      stripe_subscription_id: z
        .string()
        .regex(/^sub_\w{1,200}$/, 'must be the id of a subscription (sub_...)')
        .optional(),
      dry_run: z.boolean().optional(),
      reason: reasonSchema,
    })
    .meta({ id: 'FixUserRequest' }),
  responses: {
    200: {
      description: 'What was repaired.',
      body: z
        .object({
          user_id: z.string(),
          dry_run: z.boolean(),
          differences: z.array(differenceSchema),
          repaired: z.int(),
          before: standing,
          after: standing,
          stripe_calls: z.int(),
        })
        .meta({ id: 'UserFix' }),
    },
  },
  errors: ['not_found', 'user_not_found', 'dependency_down'],
});
