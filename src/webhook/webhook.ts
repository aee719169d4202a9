import type { RunAfterResponse } from '../core/ports.ts';
import { receiveEvent, requeueEvents } from './inbox.ts';
import { type ProcessDeps, processEvent } from './process.ts';
import { parseEvent, type StripeEvent } from './stripeEvent.ts';
import { type SignatureDeps, verifySignature } from './verifySignature.ts';
import type { Webhook } from './webhook.types.ts';

export type WebhookDeps = ProcessDeps &
  SignatureDeps & {
    /** The work on an event follows its 200. */
    runAfterResponse: RunAfterResponse;
    /** Told of each delivery that is in the inbox. */
    observeDelivery?: (delivery: { duplicate: boolean }) => void;
  };

/**
 * Events worked on at once in this process. Further ones are committed without a lease and taken
 * up by the sweep, so a burst exhausts neither memory, nor the pool, nor Stripe's rate limit.
 */
const WORK_MAX = 16;

export function createWebhook(deps: WebhookDeps): Webhook {
  const underWay = new Set<Promise<unknown>>();
  /** Places promised to events that are being committed: a burst arrives before any is at work. */
  let promised = 0;

  async function work(event: StripeEvent, fence: number): Promise<void> {
    try {
      await processEvent(deps, {
        event_id: event.id,
        event_type: event.type,
        object_id: event.objectId,
        order_key: event.orderKey,
        fence,
        attempt: 1,
        payload: event.payload,
      });
    } catch (error) {
      // Even the failure could not be recorded: the database is away. The lease runs out and the
      // sweep takes the event up.
      deps.logger.error(`Event ${event.id} is left to the sweep`, { event_id: event.id, error });
    }
  }

  return {
    async receive(rawBody, signatureHeader) {
      const text = Buffer.from(rawBody).toString('utf8');
      verifySignature(deps, text, signatureHeader);
      const event = parseEvent(text);
      const hasPlace = underWay.size + promised < WORK_MAX;
      if (hasPlace) promised += 1;
      const received = await receiveEvent(deps.db, event, hasPlace).finally(() => {
        if (hasPlace) promised -= 1;
      });
      if (received.leased && received.fence !== undefined) {
        const job = work(event, received.fence);
        underWay.add(job);
        void job.finally(() => underWay.delete(job));
        deps.runAfterResponse(job);
      }
      const duplicate = received.outcome === 'duplicate';
      deps.observeDelivery?.({ duplicate });
      return { received: true, duplicate };
    },
    retry: (request, actor) => requeueEvents(deps.db, request, actor),
    async idle() {
      while (underWay.size > 0) await Promise.all(underWay);
    },
  };
}
