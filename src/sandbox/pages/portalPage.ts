import type { Context } from '../context.ts';
import { formatAmount } from '../money.ts';
import type { Answer } from '../server.ts';
import { charges, customers, portalSessions } from '../tables.ts';
import { html, page } from './html.ts';
import { noticePage } from './noticePage.ts';

/** Payments shown; a person looks at the latest. */
const PAYMENTS_SHOWN_MAX = 20;

/** Stripe's portal, as far as one-time purchases need it: who you are and what you paid. */
export function portalPage(ctx: Context, id: string): Answer {
  const session = ctx.store.get(portalSessions, id)?.view;
  const customer = session && ctx.store.get(customers, session.customer)?.view;
  if (!session || !customer || 'deleted' in customer) {
    return noticePage(
      404,
      'This link does not work',
      html`<p>There is no such billing portal session. Ask the shop for a new link.</p>`,
    );
  }
  const paid = [];
  for (const { view } of ctx.store.walk(charges, 'newest_first')) {
    if (view.customer === customer.id) paid.push(view);
    if (paid.length === PAYMENTS_SHOWN_MAX) break;
  }
  return page(
    200,
    'Billing - Stripe sandbox',
    html`<main class="card">
${session.return_url !== null && html`<p><a class="back" href="${session.return_url}"><span aria-hidden="true">&larr;</span> Back</a></p>`}
<h1>Billing</h1>
<p>Signed in as <strong>${customer.email ?? customer.id}</strong>.</p>
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
<p>This version of the sandbox shows payments. Changing plans and payment methods comes with subscriptions.</p>
</main>`,
  );
}
