import type { Context } from '../context.ts';
import { formatAmount } from '../money.ts';
import type { Answer } from '../server.ts';
import { creditNotes } from '../tables.ts';
import { html, page } from './html.ts';
import { noticePage } from './noticePage.ts';

/** Behind a credit note's `pdf`: the same facts, to read and to print. */
export function creditNotePage(ctx: Context, id: string): Answer {
  const found = ctx.store.get(creditNotes, id);
  if (!found) {
    return noticePage(
      404,
      'This link does not work',
      html`<p>There is no such credit note in this sandbox.</p>`,
    );
  }
  const { view, hidden } = found;
  const money = (cents: number) => formatAmount(cents, view.currency);
  return page(
    200,
    `Credit note ${view.number} - Stripe sandbox`,
    html`<main class="card"><h1>Credit note ${view.number}</h1>
<p>Issued on ${new Date(view.created * 1_000).toISOString().slice(0, 10)}${view.status === 'void' && ' and void'}. For invoice <code>${view.invoice}</code>.${view.memo !== null && ` ${view.memo}`}</p>
<table><thead><tr><th scope="col">What</th><th scope="col">Amount</th></tr></thead>
<tbody>${hidden.lines.map(
      (line) =>
        html`<tr><td>${line.description ?? 'Credit'}${line.quantity !== null && ` (${line.quantity})`}</td><td>${money(line.amount)}</td></tr>`,
    )}${view.discount_amount > 0 && html`<tr><td>Discounts</td><td>${money(-view.discount_amount)}</td></tr>`}
<tr><td><strong>Total</strong></td><td><strong>${money(view.total)}</strong></td></tr></tbody></table></main>`,
  );
}
