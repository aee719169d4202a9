import { dayText } from '../billing/calendar.ts';
import { changeCard, planEnd } from '../billing/customerActions.ts';
import { nameOf } from '../billing/invoiceLines.ts';
import { hasEnded } from '../billing/subscriptionState.ts';
import { isCardNumber, testCard } from '../cards.ts';
import type { Context } from '../context.ts';
import { decodeForm } from '../form.ts';

import { formatAmount } from '../money.ts';
import type { LiveCustomer } from '../resources/customers.ts';
import { periodOf, type SubscriptionView } from '../resources/subscriptionView.ts';
import type { Answer, Request } from '../server.ts';
import { charges, customers, paymentMethods, portalSessions, subscriptions } from '../tables.ts';
import { type Html, html, page } from './html.ts';
import { noticePage } from './noticePage.ts';

/** Payments shown; a person looks at the latest. */
const PAYMENTS_SHOWN_MAX = 20;

/** Stripe's portal: who you are, your plans and your card, and what you paid. */
export function portalPage(ctx: Context, id: string, request: Request): Answer {
  const session = ctx.store.get(portalSessions, id)?.view;
  const customer = session && ctx.store.get(customers, session.customer)?.view;
  if (!session || !customer || 'deleted' in customer) {
    return noticePage(
      404,
      'This link does not work',
      html`<p>There is no such billing portal session. Ask the shop for a new link.</p>`,
    );
  }
  if (request.method === 'POST') return act(ctx, id, customer, request);
  return show(ctx, id, 200, customer, session.return_url, null);
}

function act(ctx: Context, id: string, customer: LiveCustomer, request: Request): Answer {
  const session = ctx.store.get(portalSessions, id)?.view;
  const form = decodeForm(request.body);
  const plan = plansOf(ctx, customer.id).find((one) => one.id === form.subscription);
  const typed = typeof form.card_number === 'string' ? form.card_number.replace(/[\s-]/g, '') : '';
  if (form.action === 'card') {
    const { refusal, attaches } = testCard(typed);
    const wrong = !isCardNumber(typed) || (refusal && !attaches);
    if (wrong) {
      const said =
        isCardNumber(typed) && refusal ? refusal.message : 'Your card number is invalid.';
      return show(ctx, id, 400, customer, session?.return_url ?? null, said);
    }
    ctx.store.transaction(() => changeCard(ctx, customer.id, typed));
  } else if (plan && (form.action === 'cancel' || form.action === 'keep')) {
    ctx.store.transaction(() => planEnd(ctx, plan.id, form.action === 'cancel'));
  }
  const headers = { location: `/p/session/${id}`, 'cache-control': 'no-store' };
  return { status: 303, headers, body: '' };
}

function plansOf(ctx: Context, customer: string): SubscriptionView[] {
  return ctx.store
    .lookUp(subscriptions, 'customer', customer)
    .map(({ view }) => view)
    .filter((view) => !hasEnded(view));
}

function plans(ctx: Context, session: string, customer: string): Html {
  const running = plansOf(ctx, customer);
  if (running.length === 0) return html`<p>No plan.</p>`;
  return html`<ul>${running.map((plan) => {
    const end = dayText(periodOf(plan).end);
    const leaving = plan.cancel_at_period_end;
    return html`<li>${plan.items.data.map((item) => html`${nameOf(ctx, item)} `)}&middot; ${plan.status}, ${leaving ? 'ends' : 'renews'} ${end}
<form method="post" action="/p/session/${session}"><input type="hidden" name="subscription" value="${plan.id}">
<button class="plain small" name="action" value="${leaving ? 'keep' : 'cancel'}">${leaving ? 'Keep the plan' : 'Cancel at the end of the period'}</button></form></li>`;
  })}</ul>`;
}

function cardForm(ctx: Context, session: string, customer: LiveCustomer): Html {
  const method = ctx.store.get(
    paymentMethods,
    customer.invoice_settings.default_payment_method ??
      plansOf(ctx, customer.id)[0]?.default_payment_method ??
      '',
  )?.view;
  const last4 = method?.type === 'card' ? method.card.last4 : null;
  return html`<p>${last4 === null ? 'No card.' : html`Card ending in ${last4}.`}</p>
<form method="post" action="/p/session/${session}">
<div class="field"><label for="card_number">New card number</label>
<input id="card_number" name="card_number" value="4242 4242 4242 4242" inputmode="numeric" autocomplete="cc-number" required></div>
<button class="plain" name="action" value="card">Change the card</button></form>`;
}

function show(
  ctx: Context,
  id: string,
  status: number,
  customer: LiveCustomer,
  returnUrl: string | null,
  alert: string | null,
): Answer {
  const paid = [];
  for (const { view } of ctx.store.walk(charges, 'newest_first')) {
    if (view.customer === customer.id) paid.push(view);
    if (paid.length === PAYMENTS_SHOWN_MAX) break;
  }
  return page(
    status,
    `${alert === null ? 'Billing' : 'Error: Billing'} - Stripe sandbox`,
    html`<main class="card">
${returnUrl !== null && html`<p><a class="back" href="${returnUrl}"><span aria-hidden="true">&larr;</span> Back</a></p>`}
<h1>Billing</h1>
<p>Signed in as <strong>${customer.email ?? customer.id}</strong>.</p>
${alert !== null && html`<p class="alert bad" role="alert" tabindex="-1">${alert}</p>`}
<h2>Plan</h2>
${plans(ctx, id, customer.id)}
<h2>Payment method</h2>
${cardForm(ctx, id, customer)}
<h2>Payments</h2>
${
  paid.length === 0
    ? html`<p>No payments yet.</p>`
    : html`<table><thead><tr><th scope="col">Date</th><th scope="col">State</th><th scope="col">Amount</th></tr></thead>
<tbody>${paid.map(
        (charge) => html`<tr><td>${new Date(charge.created * 1_000).toISOString().slice(0, 10)}</td>
<td>${charge.status}</td><td>${formatAmount(charge.amount, charge.currency)}</td></tr>`,
      )}</tbody></table>`
}
</main>`,
  );
}
