import { formatAmount } from '../money.ts';
import { type Html, html } from './html.ts';

/** One panel of the desk, `width` of the page on a wide screen. */
export function panel(title: string, width: 'whole' | 'half' | 'third', content: Html): Html {
  return html`<section class="panel ${width}" aria-label="${title}"><h2>${title}</h2>${content}</section>`;
}

/** A form of one button; what it sends stands in hidden fields. */
export function button(
  action: string,
  label: string,
  fields: Readonly<Record<string, string>> = {},
  look: 'main' | '' = '',
): Html {
  return html`<form method="post" action="/dashboard/${action}">${hidden(fields)}<button class="act ${look}">${label}</button></form>`;
}

export function hidden(fields: Readonly<Record<string, string>>): Html[] {
  return Object.entries(fields).map(
    ([name, value]) => html`<input type="hidden" name="${name}" value="${value}">`,
  );
}

export function options(values: Readonly<Record<string, string>>, chosen = ''): Html[] {
  return Object.entries(values).map(([value, label]) =>
    value === chosen
      ? html`<option value="${value}" selected>${label}</option>`
      : html`<option value="${value}">${label}</option>`,
  );
}

export function table(heads: readonly string[], rows: readonly Html[], empty: string): Html {
  if (rows.length === 0) return html`<p class="empty">${empty}</p>`;
  return html`<div class="scroll"><table><thead><tr>${heads.map(
    (head) => html`<th scope="col">${head}</th>`,
  )}</tr></thead><tbody>${rows}</tbody></table></div>`;
}

const GOOD = /^(succeeded|paid|active|trialing|won|complete|on|delivered)$/;
const BAD =
  /^(failed|lost|canceled|past_due|unpaid|uncollectible|void|dropped|needs_response|off)$/;
const BUSY =
  /^(pending|open|under_review|incomplete|processing|paused|draft|warning_\w+|requires_action)$/;

/** A state in words, and in a colour for those who see it. */
export function tag(state: string): Html {
  const look = GOOD.test(state) ? 'good' : BAD.test(state) ? 'bad' : BUSY.test(state) ? 'busy' : '';
  return html`<span class="tag ${look}">${state.replaceAll('_', ' ')}</span>`;
}

export function amount(cents: number, currency: string): Html {
  return html`<span class="num">${formatAmount(cents, currency)}</span>`;
}

/** `2026-11-21 09:30`, UTC, from milliseconds. */
export function minute(ms: number): string {
  return new Date(ms).toISOString().slice(0, 16).replace('T', ' ');
}
