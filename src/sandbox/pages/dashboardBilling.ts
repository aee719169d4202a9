import type { Context } from '../context.ts';
import { formatAmount } from '../money.ts';
import { periodOf } from '../resources/subscriptionView.ts';
import { customers, invoices, products, subscriptions } from '../tables.ts';
import { take } from './dashboardMoney.ts';
import { amount, button, minute, panel, table, tag } from './dashboardParts.ts';
import { type Html, html } from './html.ts';

/** Rows in one table; a person looks at the latest. */
const ROWS_MAX = 10;
const ENDED = /^(canceled|incomplete_expired)$/;

export function subscriptionsPanel(ctx: Context): Html {
  const rows = take(ctx.store.walk(subscriptions, 'newest_first'), ROWS_MAX).map(({ view }) => {
    const { id, status } = view;
    const what = view.items.data
      .map(({ price, quantity }) => {
        const name = ctx.store.get(products, price.product)?.view.name ?? price.product;
        return quantity === 1 ? name : `${quantity} x ${name}`;
      })
      .join(', ');
    const running = !ENDED.test(status);
    const renews = running && status !== 'paused' && status !== 'incomplete';
    return html`<tr><td>${what}<div class="mono mute">${id}</div></td><td>${whoIs(ctx, view.customer)}</td>
<td>${tag(status)}${view.cancel_at !== null && running && html`<div class="mute">ends ${minute(view.cancel_at * 1_000)}</div>`}</td>
<td class="when">${running ? minute(periodOf(view).end * 1_000) : ''}</td>
<td class="num"><div class="row">${renews && button('renew', 'Renew now', { id })}${
      renews && button('fail_payments', 'Fail next payment', { id: view.customer })
    }${status === 'paused' ? button('resume', 'Resume', { id }) : running && status !== 'incomplete' && button('pause', 'Pause', { id })}${
      running && button('cancel', 'Cancel', { id })
    }</div></td></tr>`;
  });
  return panel(
    'Subscriptions',
    'whole',
    table(
      ['Plan', 'Customer', 'State', 'Period ends (UTC)', 'Do'],
      rows,
      'No subscriptions. Buy a price that recurs, then move the clock.',
    ),
  );
}

export function invoicesPanel(ctx: Context): Html {
  const rows = take(ctx.store.walk(invoices, 'newest_first'), ROWS_MAX).map(({ view }) => {
    const owed = view.status === 'open' || view.status === 'uncollectible';
    return html`<tr><td>${
      view.hosted_invoice_url === null
        ? html`<span class="mono">${view.id}</span>`
        : html`<a class="mono" href="${view.hosted_invoice_url}">${view.number ?? view.id}</a>`
    }<div class="mute">${view.billing_reason.replaceAll('_', ' ')}</div></td>
<td>${whoIs(ctx, view.customer)}</td>
<td>${amount(view.total, view.currency)}${
      view.amount_remaining > 0 &&
      view.status !== 'draft' &&
      html`<div class="mute">${formatAmount(view.amount_remaining, view.currency)} open</div>`
    }</td>
<td>${tag(view.status)}${
      view.next_payment_attempt !== null &&
      html`<div class="mute">again ${minute(view.next_payment_attempt * 1_000)}</div>`
    }</td>
<td class="num"><div class="row">${(owed || view.status === 'draft') && button('pay_invoice', 'Pay', { id: view.id })}</div></td></tr>`;
  });
  return panel(
    'Invoices',
    'half',
    table(['Invoice', 'Customer', 'Total', 'State', 'Do'], rows, 'No invoices yet.'),
  );
}

function whoIs(ctx: Context, id: string): string {
  const customer = ctx.store.get(customers, id)?.view;
  return customer && !('deleted' in customer) ? (customer.email ?? customer.name ?? id) : id;
}
