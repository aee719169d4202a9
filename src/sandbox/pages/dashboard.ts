import type { IncomingHttpHeaders } from 'node:http';
import { API_VERSION, type Context } from '../context.ts';
import { ONLY_STRIPES_TIME } from '../controlClock.ts';
import { ApiError } from '../errors.ts';
import type { Answer, Request } from '../server.ts';
import { type ControlCall, runAction } from './dashboardActions.ts';
import { invoicesPanel, subscriptionsPanel } from './dashboardBilling.ts';
import {
  balanceText,
  buyPanel,
  customersPanel,
  disputesPanel,
  paymentsPanel,
  refundsPanel,
} from './dashboardMoney.ts';
import { button, minute, panel } from './dashboardParts.ts';
import { DASHBOARD_STYLE } from './dashboardStyle.ts';
import { breakPanel, deliveriesPanel, endpointsPanel } from './dashboardWebhooks.ts';
import { type Html, html, page } from './html.ts';

/** Of one notice carried in the address. */
const NOTICE_LENGTH_MAX = 500;

interface Desk {
  readonly ctx: Context;
  readonly isFrozen: () => boolean;
  /** Runs a call of the control API. @throws ApiError */
  readonly act: (call: ControlCall) => Promise<unknown>;
}

/** The page at the root: what is in the sandbox, and buttons for what can happen to it. */
export function dashboard({ ctx, isFrozen }: Desk, query: string): Answer {
  const notice = new URLSearchParams(query);
  return page(
    200,
    'Stripe sandbox',
    html`<main class="desk">
<div class="top"><div><h1>Stripe sandbox</h1>
<p>API at <span class="mono">${ctx.origin()}</span>, version <span class="mono">${API_VERSION}</span>. Balance: ${balanceText(ctx)}.</p></div>
<a href="/">Refresh</a></div>
${noticeOf(notice.get('said'), 'good')}${noticeOf(notice.get('wrong'), 'bad')}
<div class="cards">
${clockPanel(ctx, isFrozen())}${buyPanel(ctx)}${breakPanel(ctx)}
${paymentsPanel(ctx)}
${subscriptionsPanel(ctx)}
${invoicesPanel(ctx)}${customersPanel(ctx)}
${disputesPanel(ctx)}${refundsPanel(ctx)}
${deliveriesPanel(ctx)}
${endpointsPanel(ctx)}
</div></main>`,
    DASHBOARD_STYLE,
  );
}

/** A form of the page was sent: done, and back to the page with what came of it. */
export async function dashboardAction(desk: Desk, request: Request): Promise<Answer> {
  try {
    checkSameOrigin(desk.ctx, request.headers);
    const name = request.path.slice('/dashboard/'.length);
    const { said, answer } = await runAction(name, request.body, desk.act);
    const session = answer.outcome === 'open' ? (answer.session as { url?: unknown }) : null;
    return redirect(typeof session?.url === 'string' ? session.url : backWith('said', said));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return redirect(backWith('wrong', error.message));
  }
}

/**
 * A form of a foreign web page must not act here. Browsers say where a form comes from; a program
 * that says nothing has no page to protect.
 */
function checkSameOrigin(ctx: Context, headers: IncomingHttpHeaders): void {
  const site = headers['sec-fetch-site'];
  const { origin } = headers;
  const own = site === undefined ? !origin || origin === ctx.origin() : site === 'same-origin';
  if (own) return;
  throw new ApiError(403, {
    type: 'invalid_request_error',
    message: 'This form came from another site. Use the page of the sandbox itself.',
  });
}

function clockPanel(ctx: Context, frozen: boolean): Html {
  return panel(
    'Clock',
    'third',
    html`<p class="now">${minute(ctx.now())}<small>UTC, ${frozen ? 'standing still' : 'running'}</small></p>
<div class="row">${button('advance', '+1 hour', { days: String(1 / 24) })}${button('advance', '+1 day', { days: '1' })}${button('advance', '+7 days', { days: '7' })}${button('advance', '+31 days', { days: '31' })}${button('advance', '+1 year', { days: '365' })}</div>
<div class="row"><form method="post" action="/dashboard/advance"><label for="to" class="mute">to</label><input id="to" name="to" type="date" required><button class="act">Go</button></form>
${frozen ? button('flow', 'Let it run') : button('freeze', 'Stop it')}</div>
<p class="mute">Everything due on the way happens in its order, and its webhooks are sent. ${ONLY_STRIPES_TIME}</p>`,
  );
}

function noticeOf(text: string | null, look: 'good' | 'bad'): Html | null {
  if (!text) return null;
  return html`<p class="alert ${look}" role="alert" tabindex="-1">${text.slice(0, NOTICE_LENGTH_MAX)}</p>`;
}

function backWith(kind: 'said' | 'wrong', text: string): string {
  return `/?${new URLSearchParams({ [kind]: text.slice(0, NOTICE_LENGTH_MAX) })}`;
}

function redirect(location: string): Answer {
  return { status: 303, headers: { location, 'cache-control': 'no-store' }, body: '' };
}
