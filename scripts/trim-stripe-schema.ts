/**
 * Makes tests/fixtures/stripe-api-schema.json: the part of Stripe's API description that the sandbox
 * serves. Usage: tsx scripts/trim-stripe-schema.ts <full-schema.json> <output.json>
 */
import { readFileSync, writeFileSync } from 'node:fs';

type Schema = { [key: string]: unknown };
interface Description {
  info: { title: string; version: string; license: unknown };
  components: { schemas: Record<string, Schema> };
}

/** Resources the sandbox answers with. A new resource of the sandbox is added here. */
const RESOURCES = [
  'Account',
  'BalanceTransaction',
  'BillingPortal.Configuration',
  'BillingPortal.Session',
  'Charge',
  'Checkout.Session',
  'CreditNote',
  'CreditNoteLineItem',
  'Coupon',
  'Customer',
  'CustomerBalanceTransaction',
  'DeletedCustomer',
  'DeletedProduct',
  'Dispute',
  'Discount',
  'Invoice',
  'InvoiceItem',
  'InvoiceLineItem',
  'InvoicePayment',
  'LineItem',
  'PaymentIntent',
  'PaymentMethod',
  'Plan',
  'Price',
  'Product',
  'Refund',
  'PromotionCode',
  'Subscription',
  'SubscriptionItem',
  'WebhookEndpoint',
];

/** Parameters of the calls the sandbox takes. */
const PARAMS = [
  'BillingPortal.SessionCreateParams',
  'ChargeListParams',
  'Checkout.SessionCreateParams',
  'Checkout.SessionExpireParams',
  'Checkout.SessionListLineItemsParams',
  'Checkout.SessionListParams',
  'Checkout.SessionRetrieveParams',
  'CreditNoteListParams',
  'CustomerCreateParams',
  'CustomerListParams',
  'CustomerUpdateParams',
  'DisputeListParams',
  'EventListParams',
  'InvoiceListParams',
  'InvoicePaymentListParams',
  'InvoiceRetrieveParams',
  'PaymentIntentListParams',
  'PriceCreateParams',
  'PriceListParams',
  'ProductCreateParams',
  'ProductListParams',
  'RefundCreateParams',
  'RefundListParams',
  'SubscriptionCancelParams',
  'SubscriptionListParams',
  'SubscriptionPauseParams',
  'SubscriptionResumeParams',
  'SubscriptionRetrieveParams',
  'SubscriptionUpdateParams',
  'WebhookEndpointCreateParams',
  'WebhookEndpointUpdateParams',
];

/** Of the fifty ways to pay, each with shapes of its own, the sandbox simulates these. */
const WAYS_TO_PAY = new Set(['card', 'us_bank_account']);
const PREFIX = '#/components/schemas/';
const DROPPED = new Set(['description', 'x-also-expandable-to', 'x-unhandled']);

const [input, output] = process.argv.slice(2);
if (!input || !output) throw new Error('Usage: trim-stripe-schema.ts <full.json> <output.json>');
const full = JSON.parse(readFileSync(input, 'utf8')) as Description;
const kept: Record<string, unknown> = {};
const open = [...RESOURCES, ...PARAMS];

for (let name = open.pop(); name !== undefined; name = open.pop()) {
  const schema = full.components.schemas[name];
  if (kept[name] !== undefined) continue;
  if (!schema) throw new Error(`${name} is not in ${input}`);
  kept[name] = trim(onlySimulatedWays(schema), name);
}

const sorted = Object.fromEntries(
  Object.keys(kept)
    .sort()
    .map((name) => [name, kept[name]]),
);
const { title, version, license } = full.info;
writeFileSync(
  output,
  `${JSON.stringify({
    info: { title, version, license },
    components: { schemas: sorted },
  }).replaceAll('},"', '},\n"')}\n`,
);

function trim(value: unknown, owner: string): unknown {
  if (Array.isArray(value)) return value.map((item) => trim(item, owner));
  if (typeof value !== 'object' || value === null) return value;
  const node = value as Schema;
  if (typeof node.$ref === 'string') return reference(node.$ref.slice(PREFIX.length), owner);
  const expanded = ((node['x-also-expandable-to'] ?? []) as string[]).filter((name) =>
    RESOURCES.includes(name),
  );
  if (expanded.length > 0) {
    const { 'x-also-expandable-to': _dropped, ...id } = node;
    return {
      anyOf: [trim(id, owner), ...expanded.map((name) => reference(name, owner))],
    };
  }
  return Object.fromEntries(
    Object.entries(node)
      .filter(([key]) => !DROPPED.has(key) || owner === '')
      .map(([key, child]) => [
        key,
        key === 'properties' ? properties(child as Schema, owner) : trim(child, owner),
      ]),
  );
}

// Inside `properties` the keys are names of fields: a field called `description` must stay.
function properties(fields: Schema, owner: string): Schema {
  return Object.fromEntries(
    Object.entries(fields).map(([name, schema]) => [name, trim(schema, owner)]),
  );
}

/** Resources outside the list are cut off: they may stand there, and are not looked into. */
function reference(name: string, owner: string): Schema {
  const parent = RESOURCES.find((root) => name === root || name.startsWith(`${root}.`));
  const inside = parent !== undefined || PARAMS.some((root) => name.startsWith(`${root}.`));
  const shared = /^(Address|AddressParam|Metadata|MetadataParam|RangeQueryParam)$/.test(name);
  // The account is served for key checks only; its many details are never filled.
  const detail = owner === 'Account' && name.startsWith('Account.');
  if ((!inside && !shared) || detail) return { type: 'object' };
  open.push(name);
  return { $ref: PREFIX + name };
}

function onlySimulatedWays(schema: Schema): Schema {
  const fields = schema.properties as Schema | undefined;
  if (!fields || ![...WAYS_TO_PAY].every((way) => Object.hasOwn(fields, way))) return schema;
  const isWay = (field: unknown) =>
    typeof (field as Schema).$ref === 'string' || 'anyOf' in (field as Schema);
  return {
    ...schema,
    properties: Object.fromEntries(
      Object.entries(fields).filter(
        ([name, field]) =>
          WAYS_TO_PAY.has(name) ||
          !isWay(field) ||
          /^(billing_details|metadata|customer|customer_account)$/.test(name),
      ),
    ),
  };
}
