import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Ajv, type ValidateFunction } from 'ajv';
import { assertOldShape } from './oldShapes.ts';

type Schema = { [key: string]: unknown };
const file = fileURLToPath(new URL('../../fixtures/stripe-api-schema.json', import.meta.url));
const description = JSON.parse(readFileSync(file, 'utf8')) as {
  info: { version: string };
  components: { schemas: Record<string, Schema> };
};
export const schemaVersion = description.info.version;
export const schemas = description.components.schemas;

const text = { type: 'string' };
const list = {
  type: 'object',
  required: ['object', 'data', 'has_more', 'url'],
  additionalProperties: false,
  properties: {
    object: { enum: ['list'] },
    data: { type: 'array', items: { type: 'object' } },
    has_more: { type: 'boolean' },
    url: text,
  },
};
const coreEvent = {
  type: 'object',
  additionalProperties: false,
  required: ['id', 'object', 'created', 'livemode', 'related_object', 'snapshot_event', 'type'],
  properties: {
    id: { type: 'string', pattern: '^evt_' },
    object: { enum: ['v2.core.event'] },
    created: { type: 'string', pattern: '^\\d{4}-\\d\\d-\\d\\dT.*Z$' },
    livemode: { enum: [false] },
    reason: { type: 'object', required: ['type', 'request'] },
    related_object: {
      type: ['object', 'null'],
      additionalProperties: false,
      required: ['id', 'type', 'url'],
      properties: { id: text, type: text, url: { type: 'string', pattern: '^/v1/' } },
    },
    snapshot_event: { type: 'string', pattern: '^evt_' },
    type: { type: 'string', pattern: '^v1\\.' },
  },
};
const money = { type: 'array', items: { type: 'object', required: ['amount', 'currency'] } };
/** Shapes that are not in the file, after the SDK's declarations. */
const own: Record<string, Schema> = {
  list,
  'v2.core.event': coreEvent,
  core_list: {
    type: 'object',
    additionalProperties: false,
    required: ['data', 'next_page_url', 'previous_page_url'],
    properties: {
      data: { type: 'array', items: coreEvent },
      next_page_url: { type: ['string', 'null'] },
      previous_page_url: { type: ['string', 'null'] },
    },
  },
  event: {
    type: 'object',
    additionalProperties: false,
    required: [
      'id',
      'object',
      'api_version',
      'created',
      'data',
      'livemode',
      'pending_webhooks',
      'request',
      'type',
    ],
    properties: {
      id: { type: 'string', pattern: '^evt_' },
      object: { enum: ['event'] },
      api_version: text,
      created: { type: 'integer' },
      data: {
        type: 'object',
        required: ['object'],
        additionalProperties: false,
        properties: { object: { type: 'object' }, previous_attributes: { type: 'object' } },
      },
      livemode: { enum: [false] },
      pending_webhooks: { type: 'integer', minimum: 0 },
      request: {
        type: 'object',
        required: ['id', 'idempotency_key'],
        properties: {
          id: { type: ['string', 'null'] },
          idempotency_key: { type: ['string', 'null'] },
        },
      },
      type: text,
    },
  },
  balance: {
    type: 'object',
    required: ['object', 'available', 'livemode', 'pending'],
    properties: { object: { enum: ['balance'] }, available: money, pending: money },
  },
  deleted: {
    type: 'object',
    additionalProperties: false,
    required: ['id', 'object', 'deleted'],
    properties: { id: text, object: text, deleted: { enum: [true] } },
  },
  error: {
    type: 'object',
    additionalProperties: false,
    required: ['error'],
    properties: {
      error: {
        type: 'object',
        additionalProperties: false,
        required: ['type', 'message'],
        properties: {
          type: { enum: ['api_error', 'card_error', 'idempotency_error', 'invalid_request_error'] },
          message: { type: 'string', minLength: 10 },
          code: text,
          param: text,
          decline_code: text,
        },
      },
    },
  },
};

const byObject: Record<string, string> = {
  account: 'Account',
  balance_transaction: 'BalanceTransaction',
  'billing_portal.configuration': 'BillingPortal.Configuration',
  'billing_portal.session': 'BillingPortal.Session',
  charge: 'Charge',
  'checkout.session': 'Checkout.Session',
  credit_note: 'CreditNote',
  credit_note_line_item: 'CreditNoteLineItem',
  coupon: 'Coupon',
  customer: 'Customer',
  customer_balance_transaction: 'CustomerBalanceTransaction',
  discount: 'Discount',
  dispute: 'Dispute',
  invoice: 'Invoice',
  invoice_payment: 'InvoicePayment',
  invoiceitem: 'InvoiceItem',
  item: 'LineItem',
  line_item: 'InvoiceLineItem',
  payment_intent: 'PaymentIntent',
  payment_method: 'PaymentMethod',
  price: 'Price',
  product: 'Product',
  promotion_code: 'PromotionCode',
  refund: 'Refund',
  subscription: 'Subscription',
  subscription_item: 'SubscriptionItem',
  webhook_endpoint: 'WebhookEndpoint',
};

/** Stripe adds fields at will; the sandbox may send only what is described, and known enum values. */
function strict(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(strict);
  if (typeof value !== 'object' || value === null) return value;
  const node = value as Schema;
  const copy = Object.fromEntries(
    Object.entries(node).map(([key, child]) => [
      key,
      key === 'properties'
        ? Object.fromEntries(
            Object.entries(child as Schema).map(([name, field]) => [name, strict(field)]),
          )
        : strict(child),
    ]),
  );
  if (copy['x-open-enum']) copy.enum = copy['x-open-enum'];
  if (Object.keys((copy.properties as Schema | undefined) ?? {}).length > 0) {
    copy.additionalProperties ??= false;
  }
  return copy;
}

const ajv = new Ajv({ strict: false, allErrors: true });
ajv.addSchema({ $id: 'stripe', ...(strict(description) as Schema) });
const compiled = new Map<string, ValidateFunction>();

function validatorOf(object: string): ValidateFunction {
  const known = compiled.get(object);
  if (known) return known;
  const name = byObject[object];
  const made = own[object]
    ? ajv.compile(own[object])
    : name
      ? ajv.compile({ $ref: `stripe#/components/schemas/${name}` })
      : null;
  if (!made) throw new Error(`No schema for an object called ${object}`);
  compiled.set(object, made);
  return made;
}

/** @throws naming each place where an answer is not what Stripe would send. */
export function assertStripeShape(status: number, body: unknown): void {
  if (status >= 400) check('error', body);
  else assertObject(body);
}

function assertObject(body: unknown): void {
  const value = body as {
    object?: string;
    deleted?: boolean;
    data?: unknown;
    api_version?: string;
    next_page_url?: unknown;
  };
  if (value.next_page_url !== undefined) {
    check('core_list', value);
    return;
  }
  const object = String(value.object);
  check(value.deleted ? 'deleted' : object, value);
  if (object === 'list') for (const item of value.data as unknown[]) assertObject(item);
  if (object !== 'event') return;
  const told = (value.data as { object: unknown }).object;
  if (value.api_version === schemaVersion) assertObject(told);
  else assertOldShape(String(value.api_version), told);
}

function check(object: string, value: unknown): void {
  const validate = validatorOf(object);
  if (validate(value)) return;
  const problems = (validate.errors ?? []).map(
    ({ instancePath, message, params }) =>
      `${instancePath || '/'} ${message} ${JSON.stringify(params)}`,
  );
  throw new Error(`Not the shape of ${object}:\n${[...new Set(problems)].slice(0, 20).join('\n')}`);
}

/** Compiling takes a second or more; it should not count for the first test. */
export function warmUp(): void {
  for (const object of Object.keys(byObject)) validatorOf(object);
}
