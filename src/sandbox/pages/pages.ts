import { purchase, successUrl } from '../checkout.ts';
import type { Context } from '../context.ts';
import { ApiError } from '../errors.ts';
import { decodeForm } from '../form.ts';
import { type Line, withQuantity } from '../resources/checkoutLines.ts';
import { type SessionHidden, startsTrial } from '../resources/checkoutSessions.ts';
import { asksForMethod, sumsOf, withDiscounts } from '../resources/checkoutTotals.ts';
import type { SessionView } from '../resources/checkoutView.ts';
import { findByCode } from '../resources/promotionCodes.ts';
import type { Answer, Request } from '../server.ts';
import { sessions } from '../tables.ts';
import {
  type Fields,
  findMistakes,
  readFields,
  suggestedFields,
  toPurchase,
} from './checkoutForm.ts';
import { type CheckoutPage, checkoutPage, shopOf } from './checkoutPage.ts';
import { creditNotePage } from './creditNotePage.ts';
import { html } from './html.ts';
import { invoicePage, receiptPage } from './invoicePage.ts';
import { noticePage } from './noticePage.ts';
import { portalPage } from './portalPage.ts';

/** What a buyer's browser asks for. */
export function servePage(ctx: Context, request: Request): Answer {
  const checkout = /^\/c\/pay\/([A-Za-z0-9_]+)$/.exec(request.path)?.[1];
  if (checkout !== undefined) {
    if (request.method === 'POST') return pay(ctx, checkout, request);
    return show(ctx, checkout);
  }
  const portal = /^\/p\/session\/([A-Za-z0-9_]+)$/.exec(request.path)?.[1];
  if (portal !== undefined) return portalPage(ctx, portal, request);
  const invoice = /^\/i\/([A-Za-z0-9_]+)(?:\/pdf)?$/.exec(request.path)?.[1];
  if (invoice !== undefined) return invoicePage(ctx, invoice, request);
  const note = /^\/credit_notes\/([A-Za-z0-9_]+)$/.exec(request.path)?.[1];
  if (note !== undefined) return creditNotePage(ctx, note);
  const receipt = /^\/r\/([A-Za-z0-9_]+)$/.exec(request.path)?.[1];
  if (receipt !== undefined) return receiptPage(ctx, receipt);
  return noticePage(
    404,
    'There is nothing here',
    html`<p>The sandbox has no page at <code>${request.path.slice(0, 200)}</code>.</p>`,
  );
}

function show(ctx: Context, id: string): Answer {
  const found = ctx.store.get(sessions, id);
  if (!found) return unknownSession();
  if (found.view.status !== 'open') return closedSession(found.view);
  return checkoutPage(200, {
    session: found.view,
    lines: found.hidden.lines,
    ...dues(found.view, found.hidden, found.hidden.lines),
    fields: suggestedFields(found.view, ctx.now()),
    mistakes: {},
    alert: null,
  });
}

function pay(ctx: Context, id: string, request: Request): Answer {
  const found = ctx.store.get(sessions, id);
  if (!found) return unknownSession();
  const { view: session } = found;
  // A second press of Pay ends where the first one did.
  if (session.status === 'complete') return redirect(session);
  if (session.status === 'expired') return closedSession(session);
  const form = decodeForm(request.body);
  const fields = readFields(form, session, ctx.now());
  const typed = linesAsTyped(found.hidden.lines, fields);
  const code = session.allow_promotion_codes ? findByCode(ctx, fields.promotion_code) : undefined;
  const discounts = code
    ? [{ coupon: code.promotion.coupon, promotionCode: code.id }]
    : found.hidden.discounts;
  const lines = withDiscounts(ctx, typed, discounts);
  const due = dues(session, found.hidden, lines);
  const view: CheckoutPage = { session, lines, ...due, fields, mistakes: {}, alert: null };
  if (form.action === 'update') return checkoutPage(200, view);
  const mistakes = findMistakes(fields, due.asks, ctx.now());
  if (Object.keys(mistakes).length > 0) {
    return checkoutPage(400, { ...view, mistakes, alert: 'Please check the marked fields.' });
  }
  try {
    const result = ctx.store.transaction(() => purchase(ctx, id, toPurchase(fields)));
    if (result.outcome === 'complete') return redirect(result.session);
    return checkoutPage(402, { ...view, session: result.session, alert: result.refusal.message });
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return checkoutPage(error.status, { ...view, alert: error.message });
  }
}

function dues(session: SessionView, hidden: SessionHidden, lines: readonly Line[]) {
  const total = sumsOf(lines, startsTrial(hidden)).amount_total;
  return { total, asks: asksForMethod(session, total) };
}

/** Quantities that cannot be are left to `purchase`, which says why. */
function linesAsTyped(lines: readonly Line[], fields: Fields): Line[] {
  return lines.map((line) => {
    const typed = Number(fields.quantities[line.item.id] ?? line.item.quantity);
    const { minimum, maximum, enabled } = line.item.adjustable_quantity ?? {};
    const possible = Number.isInteger(typed) && typed >= Math.max(1, minimum ?? 1);
    return enabled && possible && typed <= (maximum ?? 0) ? withQuantity(line, typed) : line;
  });
}

function redirect(session: SessionView): Answer {
  return {
    status: 303,
    headers: { location: successUrl(session) ?? '/', 'cache-control': 'no-store' },
    body: '',
  };
}

function unknownSession(): Answer {
  return noticePage(
    404,
    'This link does not work',
    html`<p>There is no such Checkout Session in this sandbox. If it was restarted without a data directory, it has forgotten everything: start the purchase again.</p>`,
  );
}

function closedSession(session: SessionView): Answer {
  if (session.status === 'expired') {
    return noticePage(
      410,
      'This Checkout Session has expired',
      html`<p>It can no longer be paid. Nothing was charged for it. Start again at ${shopOf(session)}.</p>`,
      [{ href: session.cancel_url, label: 'Back to the shop' }],
    );
  }
  const waiting = session.payment_status === 'unpaid';
  return noticePage(
    200,
    waiting ? 'Your bank debit is on its way' : 'This order is complete',
    html`<p>${
      waiting
        ? 'The order is placed. The bank has not confirmed the money yet, or has refused it.'
        : session.payment_status === 'paid'
          ? 'It has been paid once and cannot be paid again.'
          : 'There was nothing to pay.'
    }</p>`,
    [{ href: successUrl(session), label: 'Continue to the shop' }],
  );
}
