import { ERRORS, type ErrorCode } from '../../core/errors.ts';
import { html, page, prose } from './html.ts';

/** What each code means to the person who meets it, and what to do about it. */
const ADVICE: Record<ErrorCode, { means: string; todo: string }> = {
  invalid_request: {
    means: 'Something in the request is missing, unknown, or out of bounds.',
    todo: 'Read `errors` in the answer: it names each field and what it must be. Sending the same request again will not help.',
  },
  invalid_signature: {
    means: 'The signature of the webhook does not fit its body.',
    todo: 'Check that `STRIPE_WEBHOOK_SECRET` is the signing secret of this very endpoint (each endpoint has its own, and `stripe listen` another), that nothing in front changes the body, and that the clock of the server is right.',
  },
  idempotency_key_missing: {
    means:
      'Requests that move credits need an `Idempotency-Key` header, so that a retry cannot move them twice.',
    todo: 'Send a text that names this one operation, such as the id of the job it pays for, and send the same text when you retry.',
  },
  unauthenticated: {
    means: 'The credential is missing, has expired, or is not known here.',
    todo: 'User routes take the user’s access token, service routes `PURSER_SERVICE_KEY`, admin routes `PURSER_ADMIN_KEY`, cron routes `CRON_SECRET`, each as `Authorization: Bearer <token>`. The detail says which one this route takes.',
  },
  insufficient_credits: {
    means: 'The user does not have as many credits as the request needs. Nothing was spent.',
    todo: '`needed`, `available` and `shortfall` tell how many are missing; `buy_url` is where the user can buy more. Afterwards send the same request with the same key.',
  },
  suspended: {
    means:
      'The account is suspended: credits that came with its plan cannot be spent for now. Bought credits can.',
    todo: 'Have the user settle the open payment in the billing portal, or ask an administrator.',
  },
  forbidden: {
    means: 'The caller is known, but this is not for this kind of caller.',
    todo: 'The detail says what the route takes. An anonymous sign-in has to become an account before it can buy.',
  },
  not_found: {
    means: 'There is nothing here, or nothing of yours.',
    todo: 'Check the path and the id.',
  },
  user_not_found: {
    means: 'Purser does not know this user.',
    todo: 'Create the user with `PUT /api/users/<id>`, or let the user sign in once. Purchases made before wait and are credited then.',
  },
  method_not_allowed: {
    means: 'The path exists, but not with this method.',
    todo: 'The `Allow` header lists the methods it has.',
  },
  in_progress: {
    means: 'The same request is being worked on right now.',
    todo: 'Wait a moment and send it again with the same key; the answer will be that of the first.',
  },
  hold_ended: {
    means: 'The hold was captured, released, or ran out.',
    todo: 'Make a new hold. The credits of one that ran out went back to the user.',
  },
  payload_too_large: {
    means: 'The body is larger than this route takes.',
    todo: 'Send less at once: 256 kB for the API, 1 MB for webhooks.',
  },
  unsupported_media_type: {
    means: 'The body is not in a form the route reads.',
    todo: 'Send JSON in UTF-8, not compressed, with `Content-Type: application/json`.',
  },
  idempotency_key_reused: {
    means: 'The `Idempotency-Key` was used before, for something else. Nothing was done.',
    todo: 'Use a new key for a new operation, and the old key only to repeat the old one exactly.',
  },
  rate_limited: {
    means: 'Too many requests came in too short a time.',
    todo: 'Wait for the seconds in `Retry-After`. Backends should use the service key, which has a limit of its own.',
  },
  internal: {
    means: 'Purser made a mistake. It was logged under the request id of the answer.',
    todo: 'Search the logs for that `request_id`. Repeating a request with its key is safe.',
  },
  overloaded: {
    means: 'There is more work than the server can take on at the moment.',
    todo: 'Wait for the seconds in `Retry-After` and send the same request with the same key.',
  },
  dependency_down: {
    means:
      'Something Purser needs (the database, Stripe, or the issuer of tokens) does not answer or is not set up. Nothing was lost.',
    todo: 'Wait for the seconds in `Retry-After` and send the same request with the same key. `/readyz` tells what is missing; Stripe delivers webhooks again by itself.',
  },
};

export function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(ERRORS, code);
}

/** The page a problem's `type` leads to. */
export function problemPage(code: ErrorCode): string {
  const { status, title } = ERRORS[code];
  const { means, todo } = ADVICE[code];
  return page({
    title: `${title} - Purser`,
    body: html`<main>
<p><span class="badge">HTTP ${status}</span> <code>${code}</code></p>
<h1>${title}</h1>
<h2>What it means</h2><p>${prose(means)}</p>
<h2>What to do</h2><p>${prose(todo)}</p>
<p class="soft"><a href="/problems">All problems</a> &middot; <a href="/api/docs">API reference</a></p>
</main>`,
  });
}

export function problemIndexPage(): string {
  return page({
    title: 'Problems - Purser',
    body: html`<main><h1>Problems</h1>
<p class="lead">Every error Purser answers with, by its code.</p>
<div class="scroll"><table><tr><th scope="col">Code</th><th scope="col">Status</th><th scope="col">Meaning</th></tr>
${(Object.keys(ERRORS) as ErrorCode[]).map(
  (code) =>
    html`<tr><td><a href="/problems/${code}"><code>${code}</code></a></td><td class="status">${ERRORS[code].status}</td><td>${ERRORS[code].title}</td></tr>`,
)}</table></div></main>`,
  });
}
