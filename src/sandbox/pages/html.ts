import { randomBytes } from 'node:crypto';
import type { Answer } from '../server.ts';
import { SCRIPT, STYLE } from './style.ts';

/** Markup that is safe to put into a page as it is. */
export class Html {
  readonly markup: string;
  constructor(markup: string) {
    this.markup = markup;
  }
}

type Piece = Html | string | number | null | false | readonly Html[];

/** A tagged template that escapes everything except markup made by itself. */
export function html(strings: TemplateStringsArray, ...pieces: readonly Piece[]): Html {
  let markup = strings[0] ?? '';
  pieces.forEach((piece, at) => {
    markup += show(piece) + (strings[at + 1] ?? '');
  });
  return new Html(markup);
}

function show(piece: Piece): string {
  if (piece === null || piece === false) return '';
  if (piece instanceof Html) return piece.markup;
  if (Array.isArray(piece)) return piece.map((item: Html) => item.markup).join('');
  return String(piece).replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** A whole page. Nothing is loaded from elsewhere; only the two inline blocks of ours may run. */
export function page(status: number, title: string, content: Html, moreStyle = ''): Answer {
  const nonce = randomBytes(16).toString('base64');
  const { markup } = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<meta name="color-scheme" content="light dark">
<title>${title}</title>
<link rel="icon" href="data:,">
<style nonce="${nonce}">${new Html(STYLE + moreStyle)}</style>
</head>
<body>
<header class="ribbon"><strong>SANDBOX</strong> - no real money. Nothing typed here leaves this machine.</header>
${content}
<script nonce="${nonce}">${new Html(SCRIPT)}</script>
</body>
</html>
`;
  return {
    status,
    body: markup,
    headers: {
      'content-type': 'text/html; charset=utf-8',
      'cache-control': 'no-store',
      // form-action must allow the shop's origin: browsers apply it to the redirect after paying.
      'content-security-policy': `default-src 'none'; style-src 'nonce-${nonce}'; script-src 'nonce-${nonce}'; img-src data:; base-uri 'none'; frame-ancestors 'none'; form-action 'self' http: https:`,
      'referrer-policy': 'no-referrer',
      'x-content-type-options': 'nosniff',
    },
  };
}
