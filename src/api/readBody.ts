import express, { type Request, type RequestHandler, type Response } from 'express';
import { PurserError } from '../core/errors.ts';

export const JSON_BODY_BYTES_MAX = 256 * 1024;
export const WEBHOOK_BODY_BYTES_MAX = 1024 * 1024;
/** Deeper documents are refused before any schema walks them: validators recurse. */
const JSON_DEPTH_MAX = 32;

const json = express.json({ limit: JSON_BODY_BYTES_MAX, type: () => true });
// Not inflated: Stripe does not compress, and a small body could unfold to anything.
const raw = express.raw({ limit: WEBHOOK_BODY_BYTES_MAX, type: () => true, inflate: false });

function run(parser: RequestHandler, request: Request, response: Response): Promise<void> {
  return new Promise((resolve, reject) => {
    parser(request, response, (error: unknown) => (error ? reject(error) : resolve()));
  });
}

function hasBody(request: Request): boolean {
  const length = request.headers['content-length'];
  return (
    request.headers['transfer-encoding'] !== undefined || (length !== undefined && length !== '0')
  );
}

function checkMediaType(request: Request): void {
  if (request.is('application/json') === false) {
    throw new PurserError('unsupported_media_type', {
      detail: 'The body must be JSON with the header "Content-Type: application/json".',
    });
  }
  const charset = /;\s*charset\s*=\s*"?([^";\s]+)/i.exec(
    request.headers['content-type'] ?? '',
  )?.[1];
  if (charset !== undefined && charset.toLowerCase() !== 'utf-8') {
    throw new PurserError('unsupported_media_type', {
      detail: `The charset ${charset.slice(0, 20)} is not supported. Send UTF-8.`,
    });
  }
}

function isDeeperThan(value: unknown, limit: number): boolean {
  const open: [unknown, number][] = [[value, 1]];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const [node, depth] = next;
    if (node === null || typeof node !== 'object') continue;
    if (depth > limit) return true;
    for (const member of Object.values(node)) open.push([member, depth + 1]);
  }
  return false;
}

/** Puts the parsed JSON into `request.body`; leaves it undefined when there is no body. */
export async function readJsonBody(request: Request, response: Response): Promise<void> {
  if (!hasBody(request)) return;
  checkMediaType(request);
  await run(json, request, response);
  if (isDeeperThan(request.body, JSON_DEPTH_MAX)) {
    throw new PurserError('invalid_request', {
      detail: `The body is nested more than ${JSON_DEPTH_MAX} levels deep.`,
    });
  }
}

/** The bytes as they were sent: a signature covers them and nothing else. */
export async function readRawBody(request: Request, response: Response): Promise<Buffer> {
  if (!hasBody(request)) {
    throw new PurserError('invalid_request', { detail: 'The request has no body.' });
  }
  checkMediaType(request);
  await run(raw, request, response);
  if (!Buffer.isBuffer(request.body)) {
    // A parser mounted before this one, or a platform helper, has eaten the bytes.
    throw new Error('The raw body of the webhook was parsed before it could be verified');
  }
  return request.body;
}
