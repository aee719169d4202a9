import type { Context } from '../context.ts';
import { formatAmount } from '../money.ts';
import { holdsMoney } from '../resources/disputes.ts';
import {
  balances,
  charges,
  customers,
  disputes,
  prices,
  products,
  refunds,
  sessions,
} from '../tables.ts';
import { amount, button, hidden, minute, options, panel, table, tag } from './dashboardParts.ts';
import { type Html, html } from './html.ts';

/** Rows in one table of the desk; a person looks at the latest. */
const ROWS_MAX = 12;
/** Choices in one list. */
const CHOICES_MAX = 200;

/** How a purchase goes, by outcome or test card. */
const WAYS_TO_PAY = {
  succeeded: 'Card pays',
  declined: 'Card is declined',
  settles_later: 'Bank debit, settles later',
  fails_later: 'Bank debit, fails later',
  '4000000000000259': 'Card, disputed later',
  '4000000000001976': 'Card, inquiry later',
  '4000000000007726': 'Card, refunds pending first',
  '4000000000005126': 'Card, refunds fail later',
  by_hand: 'By hand, on the checkout page',
};

export function buyPanel(ctx: Context): Html {
  const offered = take(
    ctx.store.walk(prices, 'oldest_first'),
    CHOICES_MAX,
    ({ view }) => view.active,
  ).map(({ view }) => {
    const name = ctx.store.get(products, view.product)?.view.name ?? view.product;
    const per = view.recurring ? ` / ${view.recurring.interval}` : '';
    const cost = formatAmount(Number(view.unit_amount_decimal), view.currency);
    return [view.id, `${name}, ${cost}${per}`];
  });
  if (offered.length === 0) {
    return panel(
      'Buy',
      'third',
      html`<p class="empty">There is nothing to sell yet. Create products and prices with the API, or:</p>
<div class="row">${button('sample', 'Make two sample prices', {}, 'main')}</div>`,
    );
  }
  const known = take(ctx.store.walk(customers, 'newest_first'), CHOICES_MAX).flatMap(({ view }) =>
    'deleted' in view ? [] : [[view.id, view.email ?? view.name ?? view.id]],
  );
  return panel(
    'Buy',
    'third',
    html`<form method="post" action="/dashboard/buy"><div class="fields">
<div class="wide"><label for="price">What</label><select id="price" name="price">${options(Object.fromEntries(offered))}</select></div>
<div class="wide"><label for="customer">Who</label><select id="customer" name="customer">${options({ '': 'A new buyer', ...Object.fromEntries(known) })}</select></div>
<div><label for="email">E-mail of a new buyer</label><input id="email" name="email" type="email" placeholder="buyer@example.com"></div>
<div><label for="quantity">Quantity</label><input id="quantity" name="quantity" type="number" min="1" value="1" required></div>
<div class="wide"><label for="how">How it goes</label><select id="how" name="how">${options(WAYS_TO_PAY)}</select></div>
</div><button class="act main">Buy</button></form>`,
  );
}

export function customersPanel(ctx: Context): Html {
  const rows = take(ctx.store.walk(customers, 'newest_first'), ROWS_MAX).map(({ view }) =>
    'deleted' in view
      ? html`<tr><td class="mono">${view.id}</td><td colspan="3" class="mute">deleted</td></tr>`
      : html`<tr><td>${view.email ?? view.name ?? 'no name'}<div class="mono mute">${view.id}</div></td>
<td class="when">${minute(view.created * 1_000)}</td>
<td class="num">${formatAmount(0 - view.balance, view.currency ?? 'usd')}</td></tr>`,
  );
  return panel(
    'Customers',
    'half',
    table(
      ['Customer', 'Since', 'Credit'],
      rows,
      'No customers yet. A purchase makes one when it needs one.',
    ),
  );
}

export function paymentsPanel(ctx: Context): Html {
  const rows = take(ctx.store.walk(charges, 'newest_first'), ROWS_MAX).map(({ view: charge }) => {
    const left = charge.amount_captured - charge.amount_refunded;
    const taken = ctx.store
      .lookUp(disputes, 'charge', charge.id)
      .some(({ view }) => holdsMoney(view.status));
    const refundable = charge.status === 'succeeded' && left > 0 && !taken;
    return html`<tr><td class="when">${minute(charge.created * 1_000)}</td>
<td><span class="mono">${charge.id}</span><div class="mute">${charge.billing_details.email ?? charge.customer ?? ''}</div></td>
<td>${amount(charge.amount, charge.currency)}${
      charge.amount_refunded > 0 &&
      html`<div class="mute">${formatAmount(charge.amount_refunded, charge.currency)} refunded</div>`
    }</td>
<td>${tag(charge.status)} ${charge.disputed && tag('disputed')}</td>
<td class="num"><div class="row">${refundable && refundForm(charge.id, charge.currency, left)}${
      charge.status === 'succeeded' && !charge.disputed && disputeForm(charge.id)
    }${charge.status === 'pending' && settleForms(ctx, charge.payment_intent)}</div></td></tr>`;
  });
  return panel(
    'Payments',
    'whole',
    table(
      ['When (UTC)', 'Charge', 'Amount', 'State', 'Money back'],
      rows,
      'Nothing has been paid yet.',
    ),
  );
}

function refundForm(id: string, currency: string, left: number): Html {
  return html`<form method="post" action="/dashboard/refund">${hidden({ id, currency })}
<input class="short" name="amount" inputmode="decimal" aria-label="Amount to refund" placeholder="${formatAmount(left, currency).replace(/[^\d.,]/g, '')}">
<button class="act">Refund</button></form>`;
}

function disputeForm(id: string): Html {
  return html`<form method="post" action="/dashboard/dispute">${hidden({ id })}
<select name="kind" aria-label="Kind of dispute">${options({ dispute: 'Dispute', inquiry: 'Inquiry', prevented: 'Prevented' })}</select>
<button class="act">Open</button></form>`;
}

function settleForms(ctx: Context, intent: string): Html | null {
  const [session] = take(
    ctx.store.walk(sessions, 'newest_first'),
    1,
    ({ view }) => view.payment_intent === intent,
  );
  if (!session) return null;
  const { id } = session;
  return html`${button('settle', 'Settle', { id, outcome: 'succeeded' })}${button('settle', 'Fail', { id, outcome: 'failed' })}`;
}

/** What the bank may do next with a dispute, by its status. */
const DECISIONS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  warning_needs_response: { needs_response: 'Escalate', warning_closed: 'Close' },
  warning_under_review: { needs_response: 'Escalate', warning_closed: 'Close' },
  needs_response: { won: 'Win', lost: 'Lose' },
  under_review: { won: 'Win', lost: 'Lose' },
  lost: { appeal_needs_response: 'Appeal' },
  appeal_needs_response: { lost: 'Lose' },
  appeal_under_review: { won: 'Win', lost: 'Lose' },
};

export function disputesPanel(ctx: Context): Html {
  const rows = take(ctx.store.walk(disputes, 'newest_first'), ROWS_MAX).map(
    ({
      view,
    }) => html`<tr><td><span class="mono">${view.id}</span><div class="mute">${view.reason.replaceAll('_', ' ')}</div></td>
<td>${amount(view.amount, view.currency)}</td><td>${tag(view.status)}</td>
<td class="num"><div class="row">${Object.entries(DECISIONS[view.status] ?? {}).map(
      ([status, label]) => button('decide', label, { id: view.id, status }),
    )}</div></td></tr>`,
  );
  return panel(
    'Disputes',
    'half',
    table(
      ['Dispute', 'Amount', 'State', 'The bank'],
      rows,
      'No disputes. Open one beside a payment.',
    ),
  );
}

export function refundsPanel(ctx: Context): Html {
  const rows = take(ctx.store.walk(refunds, 'newest_first'), ROWS_MAX).map(({ view }) => {
    const ends =
      view.status === 'pending' || view.status === 'requires_action'
        ? { succeeded: 'Arrive', failed: 'Fail' }
        : view.status === 'succeeded'
          ? { failed: 'Fail' }
          : {};
    return html`<tr><td><span class="mono">${view.id}</span><div class="mute">${minute(view.created * 1_000)}</div></td>
<td>${amount(view.amount, view.currency)}</td><td>${tag(view.status)}</td>
<td class="num"><div class="row">${Object.entries(ends).map(([status, label]) =>
      button('end_refund', label, { id: view.id, status }),
    )}</div></td></tr>`;
  });
  return panel(
    'Refunds',
    'half',
    table(['Refund', 'Amount', 'State', 'The bank'], rows, 'No refunds.'),
  );
}

export function balanceText(ctx: Context): string {
  const sums = [...ctx.store.walk(balances, 'oldest_first')].map(({ id, view }) =>
    formatAmount(view.amount, id),
  );
  return sums.length === 0 ? 'nothing yet' : sums.join(', ');
}

/** The first that fit, and no look at more. */
export function take<T>(
  from: Iterable<T>,
  most: number,
  fits: (item: T) => boolean = () => true,
): T[] {
  const found: T[] = [];
  for (const item of from) {
    if (found.length === most) break;
    if (fits(item)) found.push(item);
  }
  return found;
}
