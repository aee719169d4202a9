import { BANK_ACCOUNTS } from '../cards.ts';
import { formatAmount } from '../money.ts';
import type { Line } from '../resources/checkoutLines.ts';
import type { SessionView } from '../resources/checkoutView.ts';
import type { Answer } from '../server.ts';
import { COUNTRIES, type FieldName, type Fields, type Mistakes } from './checkoutForm.ts';
import { Html, html, page } from './html.ts';

export interface CheckoutPage {
  readonly session: SessionView;
  /** With the quantities the buyer has chosen so far. */
  readonly lines: readonly Line[];
  readonly total: number;
  /** Whether a way to pay is asked for: now, or for after a trial. */
  readonly asks: boolean;
  readonly fields: Fields;
  readonly mistakes: Mistakes;
  /** Said above the form: a decline, or what is wrong with the whole. */
  readonly alert: string | null;
}

export function checkoutPage(status: number, view: CheckoutPage): Answer {
  const { session } = view;
  const title = view.alert || Object.keys(view.mistakes).length > 0 ? 'Error: Pay' : 'Pay';
  return page(
    status,
    `${title} ${money(view, view.total)} - Stripe sandbox`,
    html`<form class="split" method="post" action="/c/pay/${session.id}" novalidate>
${
  // Enter in a field presses the first button of the form, which must not be "Update quantities".
  html`<button class="first-submit" name="action" value="pay" tabindex="-1" aria-hidden="true"></button>`
}
<section class="side" aria-label="Order"><div>${summary(view)}</div></section>
<main class="form"><div>${payment(view)}</div></main>
</form>`,
  );
}

function money({ session }: CheckoutPage, amount: number): string {
  return formatAmount(amount, session.currency ?? 'usd');
}

function summary(view: CheckoutPage): Html {
  const { session, lines } = view;
  const subtotal = lines.reduce((sum, { item }) => sum + item.amount_subtotal, 0);
  const adjustable = lines.some(({ item }) => item.adjustable_quantity?.enabled);
  return html`
${session.cancel_url !== null && html`<a class="back" href="${session.cancel_url}"><span aria-hidden="true">&larr;</span> Back</a>`}
<p class="shop">Pay ${shopOf(session)}</p>
<p class="total">${money(view, view.total)} <small>${(session.currency ?? 'usd').toUpperCase()}</small></p>
<ul class="items">${lines.map((line) => lineRow(view, line))}</ul>
${session.allow_promotion_codes && field(view, 'promotion_code', 'Promotion code', html`autocomplete="off"`)}
${(adjustable || session.allow_promotion_codes) && html`<p><button class="plain small" name="action" value="update">${adjustable ? 'Update quantities' : 'Apply code'}</button></p>`}
<dl class="sums">
<div><dt>Subtotal</dt><dd>${money(view, subtotal)}</dd></div>
${subtotal > view.total && html`<div><dt>Discount or trial</dt><dd>${money(view, view.total - subtotal)}</dd></div>`}
<div class="due"><dt>Total due today</dt><dd>${money(view, view.total)}</dd></div>
</dl>`;
}

function lineRow(view: CheckoutPage, { item, unit }: Line): Html {
  const each = formatUnit(unit, item.currency);
  const every = item.price.recurring
    ? ` every ${item.price.recurring.interval_count > 1 ? `${item.price.recurring.interval_count} ` : ''}${item.price.recurring.interval}`
    : '';
  const allowed = item.adjustable_quantity;
  return html`<li><span class="name">${item.description ?? 'Item'}
${
  allowed?.enabled
    ? html`<label class="quantity">Quantity <input type="number" name="quantity[${item.id}]" value="${view.fields.quantities[item.id] ?? item.quantity}" min="${Math.max(1, allowed.minimum ?? 1)}" max="${allowed.maximum ?? 99}" inputmode="numeric"></label>`
    : html`<span class="note">Quantity ${item.quantity}</span>`
}
${(item.quantity > 1 || every !== '') && html`<span class="note">${each} each${every}</span>`}</span>
<span class="amount">${formatAmount(item.amount_total, item.currency)}</span></li>`;
}

function formatUnit(unit: string, currency: string): string {
  return /^\d+$/.test(unit)
    ? formatAmount(Number(unit), currency)
    : `${unit} ${currency} minor units`;
}

function payment(view: CheckoutPage): Html {
  const { session, fields, asks } = view;
  // Only an address the shop gave is fixed; one the buyer typed may be mended after a decline.
  const given = session.customer !== null || session.customer_email !== null;
  const fixedEmail = given ? (session.customer_details?.email ?? null) : null;
  const free = !asks;
  return html`
<h1>${free ? 'Complete your order' : 'Pay with a test payment method'}</h1>
${view.alert !== null && html`<p class="alert bad" role="alert" tabindex="-1">${view.alert}</p>`}
${
  fixedEmail === null
    ? field(
        view,
        'email',
        'E-mail',
        html`type="email" autocomplete="email" placeholder="ada@example.com" required`,
      )
    : html`<p class="field"><span class="label">E-mail</span><span class="fixed">${fixedEmail}</span></p>`
}
${
  !free &&
  html`<fieldset><legend>Payment method</legend><div class="methods">
${session.payment_method_types.includes('card') && cardMethod(view)}
${session.payment_method_types.includes('us_bank_account') && bankMethod(view)}
</div></fieldset>
${field(view, 'name', 'Account holder', html`autocomplete="name" required`)}
<div class="field"><label for="country">Country</label><select id="country" name="country" autocomplete="country">
${COUNTRIES.map(([code, name]) => html`<option value="${code}"${selected(code === fields.country)}>${name}</option>`)}
</select></div>`
}
${session.custom_text.submit !== null && html`<p class="fine">${session.custom_text.submit.message}</p>`}
<button class="pay" name="action" value="pay">${buttonText(view)}</button>
<p class="fine">This page stands in for Stripe Checkout. Session <code>${session.id.slice(0, 20)}&hellip;</code></p>
${!free && session.payment_method_types.includes('card') && testCards()}`;
}

function buttonText(view: CheckoutPage): string {
  const { session, total, asks } = view;
  if (session.mode === 'subscription') return total === 0 ? 'Start trial' : 'Subscribe';
  return asks ? `Pay ${money(view, total)}` : 'Complete order';
}

function cardMethod(view: CheckoutPage): Html {
  return method(
    view,
    'card',
    'Card',
    '',
    html`${field(view, 'card_number', 'Card number', html`inputmode="numeric" autocomplete="cc-number" required`)}
<div class="pair">
${field(view, 'expiry', 'Expiry', html`inputmode="numeric" autocomplete="cc-exp" placeholder="MM / YY" required`)}
${field(view, 'cvc', 'Security code', html`inputmode="numeric" autocomplete="cc-csc" maxlength="4" required`)}
</div>`,
  );
}

function bankMethod(view: CheckoutPage): Html {
  return method(
    view,
    'us_bank_account',
    'Bank debit',
    'settles later',
    html`<div class="field"><label for="bank_account">Test account</label><select id="bank_account" name="bank_account">
${Object.entries(BANK_ACCOUNTS).map(
  ([number, refusal]) =>
    html`<option value="${number}"${selected(number === view.fields.bank_account)}>${number} - ${refusal ? `fails: ${refusal.code.replaceAll('_', ' ')}` : 'succeeds'}</option>`,
)}
</select>${mistake(view, 'bank_account')}</div>
<p class="hint-below">The order is confirmed at once and paid, or not, a little later.</p>`,
  );
}

function method(
  view: CheckoutPage,
  value: Fields['method'],
  label: string,
  hint: string,
  details: Html,
): Html {
  const single = view.session.payment_method_types.length === 1;
  return html`<div class="method${single ? ' single' : ''}"><label>
${
  single
    ? html`<input type="hidden" name="method" value="${value}">`
    : html`<input type="radio" name="method" value="${value}"${view.fields.method === value ? new Html(' checked') : ''}>`
}
${label}${hint !== '' && html`<span class="hint">${hint}</span>`}</label>
<div class="details">${details}</div></div>`;
}

function field(view: CheckoutPage, name: FieldName, label: string, attributes: Html): Html {
  const wrong = view.mistakes[name] !== undefined;
  return html`<div class="field"><label for="${name}">${label}</label>
<input id="${name}" name="${name}" value="${view.fields[name]}" ${attributes}${
    wrong ? html` aria-invalid="true" aria-describedby="${name}-wrong"` : ''
  }>${mistake(view, name)}</div>`;
}

function mistake(view: CheckoutPage, name: FieldName): Html | null {
  const text = view.mistakes[name];
  return text === undefined ? null : html`<p class="wrong" id="${name}-wrong">${text}</p>`;
}

function selected(yes: boolean): Html {
  return new Html(yes ? ' selected' : '');
}

function testCards(): Html {
  const rows = [
    ['4242 4242 4242 4242', 'pays'],
    ['4000 0000 0000 0002', 'is declined'],
    ['4000 0000 0000 9995', 'has insufficient funds'],
    ['4000 0000 0000 0069', 'has expired'],
    ['4000 0000 0000 0127', 'has a wrong security code'],
  ] as const;
  return html`<details><summary>Test cards</summary><table>
<thead><tr><th scope="col">Number</th><th scope="col">The card</th></tr></thead>
<tbody>${rows.map(([number, effect]) => html`<tr><td><code>${number}</code></td><td>${effect}</td></tr>`)}</tbody>
</table></details>`;
}

/** The shop is known by where the buyer returns to. */
export function shopOf(session: SessionView): string {
  const url = session.success_url;
  return url !== null && URL.canParse(url) ? new URL(url).host : 'the shop';
}
