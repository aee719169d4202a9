import { z } from 'zod';
import { PurserError } from '../core/errors.ts';
import { storableText } from '../core/storableJson.ts';
import { readPayment } from '../core/stripeFields.ts';

/** What becomes a column: storable in Postgres, and short enough for its indexes. */
const name = z
  .string()
  .max(255)
  .refine((text) => storableText(text) === text, 'holds characters that no database keeps');
const filledName = name.min(1);
/** Years 1970 to 9999. */
const SECONDS_MAX = 253_402_300_799;

const snapshot = z.looseObject({
  id: filledName,
  object: z.literal('event'),
  type: filledName,
  created: z.number().min(0).max(SECONDS_MAX),
  livemode: z.boolean(),
  account: z.string().nullish(),
  context: z.string().nullish(),
  api_version: z.string().nullish(),
  data: z.looseObject({
    object: z.looseObject({ id: name.nullish() }),
    previous_attributes: z.unknown().optional(),
  }),
});

/** Thin notifications name the object instead of carrying it, and write times as ISO 8601. */
const thin = z.looseObject({
  id: filledName,
  object: z.literal('v2.core.event'),
  type: filledName,
  created: z.iso.datetime({ offset: true }).refine((text) => Date.parse(text) >= 0),
  livemode: z.boolean(),
  context: z.string().nullish(),
  related_object: z.looseObject({ id: name }).nullish(),
});

const eitherForm = z.union([snapshot, thin]);
/** What `log_stripe_webhook_event` may have been given: an event, or the object it is about. */
const logged = z.looseObject({ object: z.string().optional() });

/** The part of a Stripe event that Purser relies on, from either form. */
export interface StripeEvent {
  id: string;
  type: string;
  createdAt: Date;
  livemode: boolean;
  /** The connected account it is of: a platform's endpoint is sent those too. */
  account: string | null;
  /** What its `context` ends in: of an organisation's destination, the account it is of. */
  contextAccount: string | null;
  objectId: string | null;
  /** The object as it was when the event was made, in the shape of its version; thin: null. */
  object: unknown;
  /** What the event changed, as it was before, where it says so. */
  before: unknown;
  /**
   * Events with the same key are worked on one at a time. A charge, its refunds and its disputes
   * move one payment, so the payment is their key. A thin notification names its object only, and
   * goes by that: should it race another event of the payment, its version decides.
   */
  orderKey: string | null;
  payload: Record<string, unknown>;
}

/** Errors: `invalid_request` for a body that is signed but no event. */
export function parseEvent(rawBody: string): StripeEvent {
  let json: unknown;
  try {
    json = JSON.parse(rawBody);
  } catch (cause) {
    throw new PurserError('invalid_request', { detail: 'The body is not valid JSON.', cause });
  }
  return readEvent(json);
}

export function readEvent(json: unknown): StripeEvent {
  const parsed = eitherForm.safeParse(json);
  if (!parsed.success) {
    throw new PurserError('invalid_request', {
      detail:
        'The body is not a Stripe event: id, object, type, created, livemode and data are needed.',
      cause: parsed.error,
    });
  }
  const event = parsed.data;
  const common = { id: event.id, type: event.type, livemode: event.livemode, payload: event };
  if (event.object === 'event') {
    const { object, previous_attributes: before = null } = event.data;
    const objectId = object.id || null;
    return {
      ...common,
      createdAt: new Date(event.created * 1000),
      account: event.account || null,
      contextAccount: endOf(event.context),
      objectId,
      object,
      before,
      orderKey: name.safeParse(readPayment(object)).data ?? objectId,
    };
  }
  const objectId = event.related_object?.id || null;
  return {
    ...common,
    createdAt: new Date(event.created),
    account: null,
    contextAccount: endOf(event.context),
    objectId,
    object: null,
    before: null,
    orderKey: objectId,
  };
}

/**
 * A context is an account, or a path to it: of an organisation's account, then of one connected to
 * that (docs.stripe.com/context).
 */
function endOf(context: string | null | undefined): string | null {
  return context?.split('/').findLast((segment) => segment !== '') ?? null;
}

/**
 * An event of the inbox. What was put in by hand may be the bare object it is about, for
 * `log_stripe_webhook_event` takes both. Where such an object does not say its mode, it is ours:
 * whoever can write to the log is no stranger. Errors: `invalid_request`.
 */
export function readStoredEvent(
  stored: { event_id: string; event_type: string; payload: unknown },
  livemode: boolean,
): StripeEvent {
  const { event_id, event_type, payload } = stored;
  const bare = logged.safeParse(payload).data;
  if (bare === undefined || bare.object === 'event' || bare.object === 'v2.core.event') {
    return readEvent(payload);
  }
  return readEvent({
    id: event_id,
    object: 'event',
    type: event_type,
    created: typeof bare.created === 'number' ? bare.created : Math.floor(Date.now() / 1000),
    livemode: typeof bare.livemode === 'boolean' ? bare.livemode : livemode,
    data: { object: bare },
  });
}
