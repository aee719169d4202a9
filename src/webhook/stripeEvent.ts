import { z } from 'zod';
import { PurserError } from '../core/errors.ts';

const snapshot = z.looseObject({
  id: z.string().min(1).max(255),
  object: z.literal('event'),
  type: z.string().min(1).max(255),
  created: z.number(),
  livemode: z.boolean(),
  account: z.string().nullish(),
  api_version: z.string().nullish(),
  data: z.looseObject({ object: z.looseObject({ id: z.string().nullish() }) }),
});

/** Thin notifications name the object instead of carrying it, and write times as ISO 8601. */
const thin = z.looseObject({
  id: z.string().min(1).max(255),
  object: z.literal('v2.core.event'),
  type: z.string().min(1).max(255),
  created: z.iso.datetime({ offset: true }),
  livemode: z.boolean(),
  context: z.string().nullish(),
  related_object: z.looseObject({ id: z.string() }).nullish(),
});

/** The part of a Stripe event that Purser relies on, from either form. */
export interface StripeEvent {
  id: string;
  type: string;
  createdAt: Date;
  livemode: boolean;
  /** Set on events of connected accounts, which are not ours. */
  account: string | null;
  objectId: string | null;
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
  const parsed = z.union([snapshot, thin]).safeParse(json);
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
    return {
      ...common,
      createdAt: new Date(event.created * 1000),
      account: event.account ?? null,
      objectId: event.data.object.id ?? null,
    };
  }
  return {
    ...common,
    createdAt: new Date(event.created),
    account: event.context ?? null,
    objectId: event.related_object?.id ?? null,
  };
}

/**
 * An event that was put in by hand as the bare object it is about: `log_stripe_webhook_event` takes
 * both. Null for a full event. Where the object does not say its mode, it is ours: whoever can write
 * to the log is no stranger.
 */
export function readLoggedObject(
  logged: { event_id: string; event_type: string; object_id: string | null; payload: unknown },
  livemode: boolean,
): StripeEvent | null {
  const payload = z.looseObject({}).parse(logged.payload);
  if (payload.object === 'event' || payload.object === 'v2.core.event') return null;
  return {
    id: logged.event_id,
    type: logged.event_type,
    createdAt: new Date(typeof payload.created === 'number' ? payload.created * 1000 : Date.now()),
    livemode: typeof payload.livemode === 'boolean' ? payload.livemode : livemode,
    account: null,
    objectId: logged.object_id,
    payload,
  };
}
