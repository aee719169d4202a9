import { createHash } from 'node:crypto';
import { add, type Context } from './context.ts';
import { ApiError, badRequest } from './errors.ts';
import { canonicalForm, type FormObject } from './form.ts';
import { savedAnswers } from './tables.ts';

export type SavedAnswer = {
  id: string;
  object: 'sandbox.saved_answer';
  /** Milliseconds. */
  saved_at: number;
  endpoint: string;
  fingerprint: string;
  request_id: string;
  status: number;
  body: string;
};

/** Stripe may forget a key after 24 hours; so does the sandbox. */
const KEY_LIFETIME_MS = 24 * 3_600_000;
/** The oldest key goes first when there are more, even inside its lifetime. */
const KEYS_MAX = 20_000;
const KEY_LENGTH_MAX = 255;

/** What makes two requests the same one. */
export interface Attempt {
  readonly key: string;
  readonly method: string;
  readonly path: string;
  readonly form: FormObject;
}

/**
 * The answer saved under this key, or null when the key is free.
 * @throws ApiError `idempotency_error` when the key was used for another request.
 */
export function replay(ctx: Context, attempt: Attempt): SavedAnswer | null {
  if (attempt.key.length > KEY_LENGTH_MAX) {
    throw badRequest(`Idempotency keys can be at most ${KEY_LENGTH_MAX} characters long.`);
  }
  const saved = ctx.store.get(savedAnswers, attempt.key)?.view;
  if (!saved || saved.saved_at + KEY_LIFETIME_MS <= ctx.now()) return null;
  if (saved.endpoint !== endpointOf(attempt)) {
    throw mismatch(
      `Keys for idempotent requests can only be used for the same endpoint they were first used for ('${saved.endpoint}' vs '${endpointOf(attempt)}'). Try using a key other than '${attempt.key}' if you meant to execute a different request.`,
    );
  }
  if (saved.fingerprint !== fingerprintOf(attempt)) {
    throw mismatch(
      `Keys for idempotent requests can only be used with the same parameters they were first used with. Try using a key other than '${attempt.key}' if you meant to execute a different request.`,
    );
  }
  return saved;
}

/** In the transaction of the request itself, so that the effect and its answer are kept together. */
export function saveAnswer(
  ctx: Context,
  attempt: Attempt,
  answer: { request_id: string; status: number; body: string },
): void {
  // Removed first, so that an expired key that is used again is the newest.
  ctx.store.remove(savedAnswers, attempt.key);
  add(
    ctx,
    savedAnswers,
    {
      id: attempt.key,
      object: 'sandbox.saved_answer',
      saved_at: ctx.now(),
      endpoint: endpointOf(attempt),
      fingerprint: fingerprintOf(attempt),
      ...answer,
    },
    {},
  );
  for (const { id, view } of ctx.store.walk(savedAnswers, 'oldest_first')) {
    const expired = view.saved_at + KEY_LIFETIME_MS <= ctx.now();
    if (!expired && ctx.store.size(savedAnswers) <= KEYS_MAX) break;
    ctx.store.remove(savedAnswers, id);
  }
}

function endpointOf(attempt: Attempt): string {
  return `${attempt.method} ${attempt.path}`;
}

function fingerprintOf(attempt: Attempt): string {
  return createHash('sha256').update(canonicalForm(attempt.form)).digest('base64url');
}

function mismatch(message: string): ApiError {
  return new ApiError(400, { type: 'idempotency_error', message });
}
