/**
 * The entry on Vercel, bundled to build/vercel/index.js by scripts/build-vercel.ts and called by
 * api/index.js: one function for every path that is not a static page. See docs/deploy-vercel.md.
 */
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { SettingsError } from './config.ts';
import { PurserError } from './core/errors.ts';
import { createLogger } from './observability/logger.ts';
import { composeVercel } from './vercel/composeVercel.ts';
import { loadVercelSettings } from './vercel/vercelSettings.ts';

/** Composed while the module loads, once an instance; requests wait for nothing. */
const listener = compose();

function compose(): RequestListener {
  try {
    const { settings, warnings } = loadVercelSettings(process.env);
    const logger = createLogger({ level: settings.logLevel });
    for (const warning of warnings) logger.warn(warning);
    return composeVercel(settings, logger);
  } catch (error) {
    // A module that throws shows its visitors a bare error of the platform, and its owner a stack.
    const known = error instanceof SettingsError || error instanceof PurserError;
    const text = known || !(error instanceof Error) ? error : (error.stack ?? error.message);
    process.stderr.write(`${known ? (error as Error).message : text}\n`);
    return answerUnconfigured;
  }
}

/** 503, so that Stripe sends its events again once the settings are mended. */
function answerUnconfigured(_request: IncomingMessage, response: ServerResponse): void {
  const problem = {
    type: 'about:blank',
    title: 'A dependency is not available',
    status: 503,
    code: 'dependency_down',
    detail:
      'This deployment cannot start. Its log (Vercel: Logs) names what is wrong and the fix; deploy again after changing settings.',
  };
  response.writeHead(503, {
    'content-type': 'application/problem+json',
    'cache-control': 'no-store',
    'retry-after': '60',
  });
  response.end(JSON.stringify(problem));
}

/** What Vercel's helpers put upon requests and responses, in the way of Express' own. */
const REQUEST_HELPERS = ['query', 'cookies', 'body'];
const RESPONSE_HELPERS = ['status', 'redirect', 'send', 'json'];

export default function handler(request: IncomingMessage, response: ServerResponse): void {
  // They hide the methods of Express behind look-alikes; vercel.json asks to leave them out.
  for (const name of REQUEST_HELPERS) Reflect.deleteProperty(request, name);
  for (const name of RESPONSE_HELPERS) Reflect.deleteProperty(response, name);
  listener(request, response);
}
