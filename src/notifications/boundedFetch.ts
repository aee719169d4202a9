import { SendError } from './transport.ts';

/** Answers are read to learn what went wrong; more than this says nothing. */
const BODY_BYTES_MAX = 16 * 1024;

export interface Answer {
  status: number;
  body: string;
  retryAfterSeconds: number;
}

/**
 * One POST of JSON: bounded in time and in what is read, and never led elsewhere, for a redirect
 * could point at what only this machine reaches. Errors: `SendError`, also for a redirect.
 */
export async function postJson(
  url: string,
  body: unknown,
  options: { what: string; secondsMax: number; headers?: Record<string, string> },
): Promise<Answer> {
  const { what, secondsMax, headers = {} } = options;
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
      redirect: 'manual',
      signal: AbortSignal.timeout(secondsMax * 1000),
    });
    if (response.status >= 300 && response.status < 400) {
      await response.body?.cancel();
      throw new SendError(`${what} answered with a redirect, which is not followed.`);
    }
    return {
      status: response.status,
      body: await readStart(response),
      retryAfterSeconds: retryAfter(response.headers.get('retry-after')),
    };
  } catch (error) {
    if (error instanceof SendError) throw error;
    const timedOut = (error as Error).name === 'TimeoutError';
    throw new SendError(
      timedOut
        ? `${what} gave no answer within ${secondsMax} s.`
        : `${what} could not be reached: ${reasonOf(error)}`,
      { cause: error },
    );
  }
}

async function readStart(response: Response): Promise<string> {
  const reader = response.body?.getReader();
  if (reader === undefined) return '';
  const parts: Uint8Array[] = [];
  let bytes = 0;
  while (bytes < BODY_BYTES_MAX) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    bytes += value.byteLength;
  }
  await reader.cancel();
  return Buffer.concat(parts).subarray(0, BODY_BYTES_MAX).toString('utf8');
}

/** An hour at most: whoever asks for more is asked again anyway. */
function retryAfter(header: string | null): number {
  const seconds = Number(header ?? 0);
  return Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds, 3600) : 0;
}

/** `fetch failed` says nothing; its cause does. */
function reasonOf(error: unknown): string {
  const { message, cause } = error as Error;
  return cause instanceof Error ? cause.message : message;
}
