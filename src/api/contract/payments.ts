import { z } from 'zod';
import { declareRoute } from './declareRoute.ts';
import { dryRunAnswer, dryRunQuery } from './dryRun.ts';
import { text, timestampSchema } from './primitives.ts';

const REASON_LENGTH_MAX = 500;
const STATUS_LENGTH_MAX = 50;

const paymentIdSchema = z
  .string()
  .regex(
    /^(pi|ch|py)_\w{1,240}$/,
    'must be the id of a payment intent (pi_...), or of a charge without one (ch_...)',
  );

const moneySchema = z
  .int()
  .min(0, 'must not be negative')
  .meta({ description: 'In the smallest unit of the currency.' });

const amounts = {
  paid: moneySchema.meta({ description: 'What was paid with it.' }),
  refunded: moneySchema.meta({ description: 'Its refunds that succeeded, in sum.' }),
  disputed: moneySchema.meta({
    description: 'Its disputes that are open or lost; inquiries and disputes that were won: 0.',
  }),
};

const paymentRecord = {
  payment: z.string(),
  version: z
    .int()
    .min(0)
    .meta({ description: 'Rises with every change; 0 = nothing is recorded yet.' }),
  user_id: z.string().nullable(),
  currency: z.string().nullable(),
  ...amounts,
  status: z.string().nullable(),
};

export const getPayment = declareRoute({
  id: 'getPayment',
  method: 'get',
  path: '/api/admin/payments/:payment',
  tag: 'Admin',
  summary: 'What became of a payment, and of the credits it bought',
  auth: 'admin',
  params: z.strictObject({ payment: paymentIdSchema }),
  query: z.strictObject({}),
  responses: {
    200: {
      description: 'The payment.',
      body: z
        .object({
          ...paymentRecord,
          settlement: z
            .object({
              transaction_id: z.string(),
              granted: z.int().meta({ description: 'Credits.' }),
              settled: z.int().meta({ description: 'All that was paid for them.' }),
              target: z
                .int()
                .meta({ description: 'Credits to be taken back for the amounts as they are.' }),
              clawed: z.int().meta({
                description:
                  'Credits taken back; behind `target` only while the account is closed.',
              }),
              payments: z.array(z.object({ payment: z.string(), ...amounts })),
              entries: z.array(
                z.object({
                  transaction_id: z.string(),
                  transaction_type: z.enum(['clawback', 'clawback_reversal']),
                  amount: z.int(),
                  created_at: timestampSchema,
                }),
              ),
            })
            .nullable()
            .meta({ description: 'The grant it settled; null until one names the payment.' }),
        })
        .meta({ id: 'Payment' }),
    },
  },
  errors: ['not_found', 'dependency_down'],
});

export const setPaymentState = declareRoute({
  id: 'setPaymentState',
  method: 'post',
  path: '/api/admin/payments/:payment/state',
  tag: 'Admin',
  summary: 'Say what became of a payment',
  description:
    'Takes back, or gives back, the credits that follow from the amounts; audited with the reason. The amounts are totals, not differences, so repeating it changes nothing.',
  auth: 'admin',
  params: z.strictObject({ payment: paymentIdSchema }),
  query: dryRunQuery,
  body: z
    .strictObject({
      version: paymentRecord.version.meta({
        description: '`version` of the payment as it was read before the amounts were looked up.',
      }),
      ...amounts,
      currency: z
        .string()
        .regex(/^[A-Za-z]{3}$/, 'must be a currency of three letters')
        .optional(),
      status: text(STATUS_LENGTH_MAX).min(1, 'must not be empty').optional(),
      reason: text(REASON_LENGTH_MAX).trim().min(1, 'must say why'),
    })
    .meta({ id: 'PaymentStateRequest' }),
  responses: {
    200: {
      description: 'The payment as it stands, and the entry that followed.',
      body: z
        .object({
          outcome: z.enum(['applied', 'unchanged', 'stale']).meta({
            description:
              '`stale`: others have changed the payment since; nothing was written. Read it again, look the amounts up again, and send both.',
          }),
          ...paymentRecord,
          transaction_id: z.string().nullable(),
          amount: z.int().nullable().meta({ description: 'Credits of that entry, signed.' }),
          ...dryRunAnswer,
        })
        .meta({ id: 'PaymentStateAnswer' }),
    },
  },
  errors: ['dependency_down'],
});
