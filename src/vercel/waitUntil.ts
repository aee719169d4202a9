import type { RunAfterResponse } from '../core/ports.ts';

/**
 * Where Vercel's runtime keeps what belongs to the request under way. The package
 * @vercel/functions 3.9.9 reads the same place; it is not used because it brings four packages
 * for these lines.
 */
const REQUEST_CONTEXT = Symbol.for('@vercel/request-context');

interface RequestContext {
  waitUntil?(promise: Promise<unknown>): void;
}

/**
 * Keeps the instance awake until the work has ended, at most until the function's `maxDuration`.
 * Elsewhere, and in a runtime without the context, the work simply goes on.
 */
export const waitUntil: RunAfterResponse = (work) => {
  const holder = globalThis as { [REQUEST_CONTEXT]?: { get?(): RequestContext | undefined } };
  holder[REQUEST_CONTEXT]?.get?.()?.waitUntil?.(work);
};
