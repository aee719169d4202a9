import { processingKey } from '../../checkout/checkout.ts';
import { getRecordedSession } from '../../checkout/recordedSession.ts';
import { settleSession } from '../../checkout/settleSession.ts';
import { processedKey } from '../../credits/effects.ts';
import type { Handler, HandlerDeps } from './handler.ts';

/** Long enough for the slowest attempt; removed when the attempt ends. */
const PROCESSING_TTL_SECONDS = 3600;

/** completed and async_payment_succeeded: the session itself says whether it is paid. */
export const sessionPaid: Handler = async (deps, event) => {
  const { redis, logger } = deps;
  const sessionId = event.objectId;
  if (await wasCredited(deps, sessionId)) {
    logger.info(`Session ${sessionId} already processed, skipping`, { event_id: event.id });
    return [];
  }
  await redis
    .setMarker(processingKey(sessionId), PROCESSING_TTL_SECONDS)
    .catch((error: unknown) => logger.warn('processing: hint was not set', { error }));
  try {
    return (await settleSession(deps, sessionId, event.createdAt)).effects;
  } finally {
    await redis
      .deleteMarker(processingKey(sessionId))
      .catch((error: unknown) => logger.warn('processing: hint was not removed', { error }));
  }
};

export const sessionPaymentFailed: Handler = async (_deps, event) => [
  { kind: 'checkout_state', session_id: event.objectId, state: 'failed' },
];

export const sessionExpired: Handler = async (_deps, event) => [
  { kind: 'checkout_state', session_id: event.objectId, state: 'expired' },
];

/**
 * The hint `processed:` spares the calls to Stripe, but only the ledger may say that nothing is
 * left to do: a hint without an entry must never suppress a credit.
 */
async function wasCredited(
  { db, redis, logger }: HandlerDeps,
  sessionId: string,
): Promise<boolean> {
  const hinted = await redis.hasMarker(processedKey(sessionId)).catch((error: unknown) => {
    logger.warn('processed: hint could not be read', { error });
    return false;
  });
  return hinted && (await getRecordedSession(db, sessionId)).entry !== null;
}
