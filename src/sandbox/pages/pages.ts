import type { Context } from '../context.ts';
import type { Answer, Request } from '../server.ts';

export function servePage(_ctx: Context, request: Request): Answer {
  return { status: 404, headers: { 'content-type': 'text/plain' }, body: request.path };
}
