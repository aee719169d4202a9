import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { canonicalForm, decodeForm } from '../../src/sandbox/form.ts';
import { multiply, shortestDecimal, wholeAmount } from '../../src/sandbox/money.ts';
import type { Param, Shape } from '../../src/sandbox/params.ts';
import { apiRoutes } from '../../src/sandbox/routes.ts';
import { schemas } from './support/stripeSchema.ts';

type Schema = { [key: string]: unknown };

/** The routes whose parameters Stripe's schema describes. */
const DESCRIBED: Record<string, string> = {
  'POST /v1/products': 'ProductCreateParams',
  'GET /v1/products': 'ProductListParams',
  'POST /v1/prices': 'PriceCreateParams',
  'GET /v1/prices': 'PriceListParams',
  'POST /v1/customers': 'CustomerCreateParams',
  'POST /v1/customers/:id': 'CustomerUpdateParams',
  'GET /v1/customers': 'CustomerListParams',
  'POST /v1/checkout/sessions': 'Checkout.SessionCreateParams',
  'GET /v1/checkout/sessions': 'Checkout.SessionListParams',
  'GET /v1/checkout/sessions/:id': 'Checkout.SessionRetrieveParams',
  'GET /v1/checkout/sessions/:id/line_items': 'Checkout.SessionListLineItemsParams',
  'POST /v1/checkout/sessions/:id/expire': 'Checkout.SessionExpireParams',
  'GET /v1/payment_intents': 'PaymentIntentListParams',
  'GET /v1/charges': 'ChargeListParams',
  'POST /v1/refunds': 'RefundCreateParams',
  'GET /v1/refunds': 'RefundListParams',
  'GET /v1/disputes': 'DisputeListParams',
  'GET /v1/credit_notes': 'CreditNoteListParams',
  'GET /v1/invoices': 'InvoiceListParams',
  'GET /v1/invoices/:id': 'InvoiceRetrieveParams',
  'GET /v1/invoice_payments': 'InvoicePaymentListParams',
  'GET /v1/subscriptions': 'SubscriptionListParams',
  'GET /v1/subscriptions/:id': 'SubscriptionRetrieveParams',
  'POST /v1/subscriptions/:id': 'SubscriptionUpdateParams',
  'DELETE /v1/subscriptions/:id': 'SubscriptionCancelParams',
  'POST /v1/subscriptions/:id/pause': 'SubscriptionPauseParams',
  'POST /v1/subscriptions/:id/resume': 'SubscriptionResumeParams',
  'GET /v1/events': 'EventListParams',
  'POST /v1/webhook_endpoints': 'WebhookEndpointCreateParams',
  'POST /v1/webhook_endpoints/:id': 'WebhookEndpointUpdateParams',
  'POST /v1/billing_portal/sessions': 'BillingPortal.SessionCreateParams',
};

/** What differs, and why. */
const EXCEPTIONS: Record<string, string> = {
  'POST /v1/checkout/sessions: mode is required':
    'typed optional, but the API asks for it whenever there are line items',
};

/** Differences between the declared parameters of a route and Stripe's schema of them. */
function differences(shape: Shape, schema: Schema, path: string): string[] {
  const fields = (schema.properties ?? {}) as Record<string, Schema>;
  const needed = new Set((schema.required ?? []) as string[]);
  return [
    ...Object.keys(fields).flatMap((name) =>
      shape[name] ? [] : [`${path}${name} is missing here`],
    ),
    ...Object.entries(shape).flatMap(([name, param]) => {
      const field = fields[name];
      if (!field) return [`${path}${name} is unknown to Stripe`];
      const required = param.required && !needed.has(name) ? [`${path}${name} is required`] : [];
      const optional =
        !param.required && needed.has(name) && param.kind !== 'refused'
          ? [`${path}${name} is optional here`]
          : [];
      return [...required, ...optional, ...inside(param, field, `${path}${name}.`)];
    }),
  ];
}

function inside(param: Param<unknown>, field: Schema, path: string): string[] {
  const options = ((field.anyOf as Schema[] | undefined) ?? [field]).map(resolve);
  if (param.shape) {
    const target = options.find((option) => option.properties);
    return target ? differences(param.shape, target, path) : [`${path} is no object at Stripe`];
  }
  if (param.item?.shape) {
    const holder = options.find((option) => option.items ?? option.additionalProperties);
    const item = resolve((holder?.items ?? holder?.additionalProperties ?? {}) as Schema);
    return differences(param.item.shape, item, path);
  }
  const choices = param.choices ?? param.item?.choices;
  const known = options.flatMap((option) => {
    const target = option.items ? resolve(option.items as Schema) : option;
    return (target['x-open-enum'] ?? target.enum ?? []) as string[];
  });
  if (!choices || known.length === 0) return [];
  return choices
    .filter((choice) => !known.includes(choice))
    .map((choice) => `${path}${choice} is no choice at Stripe`);
}

function resolve(schema: Schema): Schema {
  const name = typeof schema.$ref === 'string' ? schema.$ref.split('/').at(-1) : undefined;
  return name === undefined ? schema : (schemas[name] ?? {});
}

describe('the parameters of each route', () => {
  it.each(Object.entries(DESCRIBED))(
    '%s are those of %s: taken, or refused by name',
    (call, name) => {
      const found = apiRoutes.find(({ method, pattern }) => `${method} ${pattern}` === call);
      const schema = schemas[name];
      if (!found || !schema) throw new Error(`${call} or ${name} is gone`);
      const unexplained = differences(found.params, schema, '')
        .map((difference) => `${call}: ${difference}`)
        .filter((difference) => !EXCEPTIONS[difference]);
      expect(unexplained).toEqual([]);
    },
  );
});

describe('form decoding', () => {
  it('nests groups and lists, and does not care about the order', () => {
    const form = decodeForm('a[b][0][c]=1&a[b][1][c]=2&x[]=p&x[]=q&t=%E2%98%95');
    expect(JSON.parse(canonicalForm(form))).toEqual({
      a: { b: { 0: { c: '1' }, 1: { c: '2' } } },
      t: '☕',
      x: { 0: 'p', 1: 'q' },
    });
    expect(canonicalForm(decodeForm('a=1&b=2'))).toBe(canonicalForm(decodeForm('b=2&a=1')));
  });

  it('never throws anything but an API error, whatever is sent', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary', maxLength: 60 }),
        fc.string({ maxLength: 20 }),
        (name, value) => {
          try {
            decodeForm(new URLSearchParams([[name, value]]).toString());
          } catch (error) {
            expect((error as { status?: number }).status).toBe(400);
          }
        },
      ),
    );
  });
});

describe('money', () => {
  it('multiplies decimals exactly and rounds half up', () => {
    expect(multiply('33.5', 3)).toBe(101);
    expect(multiply('0.1', 3)).toBe(0);
    expect(multiply('0.005', 100)).toBe(1);
    fc.assert(
      fc.property(fc.nat(99_999_999), fc.integer({ min: 1, max: 999_999 }), (unit, quantity) => {
        expect(BigInt(multiply(String(unit), quantity))).toBe(
          BigInt(Number(BigInt(unit) * BigInt(quantity))),
        );
      }),
    );
    expect([
      wholeAmount('5.00'),
      wholeAmount('5.5'),
      shortestDecimal('005.50'),
      shortestDecimal('0'),
    ]).toEqual([5, null, '5.5', '0']);
  });
});
