import type { Handler } from './handler.ts';

/** product.* and price.*: what is kept of Stripe's answers about them is old. */
export const catalogueChanged: Handler = async (_deps, event) => [
  { kind: 'stripe_changed', event_type: event.type, object_id: event.objectId },
];
