import { attemptPayment } from '../billing/payInvoice.ts';
import { isCardNumber, testCard } from '../cards.ts';
import type { Context } from '../context.ts';
import { decodeForm } from '../form.ts';
import { formatAmount } from '../money.ts';
import type { ChargeView } from '../resources/charges.ts';
import { chargesOfInvoice } from '../resources/invoicePayments.ts';
import type { InvoiceView } from '../resources/invoiceView.ts';
import { createCard } from '../resources/paymentMethodRoutes.ts';
import type { Answer, Request } from '../server.ts';
import { charges, invoices } from '../tables.ts';
import { type Html, html, page } from './html.ts';
import { noticePage } from './noticePage.ts';

/** Lines on the page; the rest is in the API. */
const LINES_SHOWN_MAX = 100;

const STATES: Readonly<Record<InvoiceView['status'], string>> = {
  draft: 'Draft',
  open: 'To be paid',
  paid: 'Paid',
  uncollectible: 'Overdue',
  void: 'Void: nothing is owed',
};

/** Stripe's hosted invoice page: what is owed and a way to pay it, or the receipt. */
export function invoicePage(ctx: Context, id: string, request: Request): Answer {
  const found = ctx.store.get(invoices, id);
  if (!found || found.view.status === 'draft') {
    return noticePage(
      404,
      'This link does not work',
      html`<p>There is no such invoice, or it is not finalised yet.</p>`,
    );
  }
  if (request.method === 'POST') return pay(ctx, found.view, request);
  return show(ctx, id, 200, null);
}

function pay(ctx: Context, invoice: InvoiceView, request: Request): Answer {
  const { id } = invoice;
  if (!owed(invoice)) return back(id);
  const typed = decodeForm(request.body).card_number;
  const number = typeof typed === 'string' ? typed.replace(/[\s-]/g, '') : '';
  if (!isCardNumber(number)) return show(ctx, id, 400, 'Your card number is invalid.');
  const attempt = ctx.store.transaction(() => {
    // A refused card is not saved with the customer: it is no way to pay him by.
    const saved = testCard(number).refusal === null ? invoice.customer : null;
    const method = createCard(ctx, number, saved);
    return attemptPayment(ctx, id, { method: method.id, onSession: true });
  });
  return attempt.outcome === 'failed' ? show(ctx, id, 402, attempt.refusal.message) : back(id);
}

function back(id: string): Answer {
  return {
    status: 303,
    headers: { location: `/i/${id}`, 'cache-control': 'no-store' },
    body: '',
  };
}

function owed({ status }: InvoiceView): boolean {
  return status === 'open' || status === 'uncollectible';
}

function show(ctx: Context, id: string, status: number, alert: string | null): Answer {
  const found = ctx.store.get(invoices, id);
  if (!found) throw new Error(`The sandbox has no invoice ${id}.`);
  const { view: invoice, hidden } = found;
  const money = (amount: number) => formatAmount(amount, invoice.currency);
  const title = invoice.status === 'paid' ? 'Receipt' : 'Invoice';
  const off = invoice.subtotal - invoice.total;
  const credit = invoice.total - invoice.amount_due;
  return page(
    status,
    `${alert === null ? title : `Error: ${title}`} ${invoice.number ?? id} - Stripe sandbox`,
    html`<main class="card"><h1>${title} ${invoice.number ?? id}</h1>
${alert !== null && html`<p class="alert bad" role="alert" tabindex="-1">${alert}</p>`}
<p>${STATES[invoice.status]} &middot; ${invoice.customer_email ?? invoice.customer}</p>
<table><thead><tr><th scope="col">What</th><th scope="col">Amount</th></tr></thead>
<tbody>${hidden.lines
      .slice(0, LINES_SHOWN_MAX)
      .map(
        (line) =>
          html`<tr><td>${line.description ?? 'Item'}</td><td>${money(line.amount)}</td></tr>`,
      )}</tbody></table>
<dl class="sums">
<div><dt>Subtotal</dt><dd>${money(invoice.subtotal)}</dd></div>
${off !== 0 && html`<div><dt>Discount</dt><dd>${money(-off)}</dd></div>`}
${credit !== 0 && html`<div><dt>Balance</dt><dd>${money(-credit)}</dd></div>`}
<div><dt>Paid</dt><dd>${money(invoice.amount_paid)}</dd></div>
<div class="due"><dt>Still due</dt><dd>${money(invoice.amount_remaining)}</dd></div>
</dl>
${owed(invoice) ? payForm(invoice, money(invoice.amount_remaining)) : paidWith(ctx, id)}
</main>`,
  );
}

function payForm({ id }: InvoiceView, amount: string): Html {
  return html`<form method="post" action="/i/${id}">
<div class="field"><label for="card_number">Card number</label>
<input id="card_number" name="card_number" value="4242 4242 4242 4242" inputmode="numeric" autocomplete="cc-number" required></div>
<button class="pay">Pay ${amount}</button></form>`;
}

function paidWith(ctx: Context, invoice: string): Html {
  const paid = chargesOfInvoice(ctx, invoice).filter(({ paid }) => paid);
  if (paid.length === 0) return html``;
  return html`<h2>Payments</h2><ul>${paid.map(
    (charge) =>
      html`<li><a href="/r/${charge.id}">${formatAmount(charge.amount, charge.currency)}, ${dayOf(charge)}</a></li>`,
  )}</ul>`;
}

function dayOf({ created }: ChargeView): string {
  return new Date(created * 1_000).toISOString().slice(0, 10);
}

/** The receipt of one payment, as its `receipt_url` shows it. */
export function receiptPage(ctx: Context, id: string): Answer {
  const charge = ctx.store.get(charges, id)?.view;
  if (!charge?.paid) {
    return noticePage(404, 'This link does not work', html`<p>There is no such receipt.</p>`);
  }
  const details = charge.payment_method_details;
  const last4 = 'card' in details ? details.card.last4 : details.us_bank_account.last4;
  const money = (amount: number) => formatAmount(amount, charge.currency);
  return noticePage(
    200,
    'Receipt',
    html`<dl class="sums">
<div><dt>Date</dt><dd>${dayOf(charge)}</dd></div>
<div><dt>Paid with</dt><dd>&bull;&bull;&bull;&bull; ${last4}</dd></div>
<div><dt>For</dt><dd>${charge.description ?? 'Payment'}</dd></div>
${charge.amount_refunded > 0 && html`<div><dt>Refunded</dt><dd>${money(charge.amount_refunded)}</dd></div>`}
<div class="due"><dt>Amount</dt><dd>${money(charge.amount)}</dd></div>
</dl>`,
  );
}
