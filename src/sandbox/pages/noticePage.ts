import type { Answer } from '../server.ts';
import { type Html, html, page } from './html.ts';

/** A page that says how things stand, and where to go from here. */
export function noticePage(
  status: number,
  title: string,
  text: Html,
  links: readonly { href: string | null; label: string }[] = [],
): Answer {
  return page(
    status,
    `${title} - Stripe sandbox`,
    html`<main class="card"><h1>${title}</h1>${text}
<div class="actions">${links.map(({ href, label }, at) =>
      href === null
        ? html``
        : html`<a class="${at === 0 ? 'pay' : 'plain'}" href="${href}">${label}</a>`,
    )}</div></main>`,
  );
}
