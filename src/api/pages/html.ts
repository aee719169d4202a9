const HTML = Symbol('html');

/** Markup that may be put into a page as it is; made by `html` only. */
export interface Html {
  readonly [HTML]: string;
}

type Part = Html | string | number | null | undefined | false | readonly Part[];

const ENTITIES: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

function render(part: Part): string {
  if (part === null || part === undefined || part === false) return '';
  if (typeof part === 'string' || typeof part === 'number') {
    return String(part).replace(/[&<>"']/g, (character) => ENTITIES[character] ?? character);
  }
  if (Array.isArray(part)) return part.map(render).join('');
  return (part as Html)[HTML];
}

/** A template whose values are escaped, so that no page can be made without escaping. */
export function html(strings: TemplateStringsArray, ...parts: Part[]): Html {
  const markup = strings.reduce((text, piece, index) => text + piece + render(parts[index]), '');
  return { [HTML]: markup };
}

/** Text with `code` in backticks, as the contract's descriptions are written. */
export function prose(text: string): Html {
  const pieces = text.split('`');
  return html`${pieces.map((piece, index) => (index % 2 === 1 ? html`<code>${piece}</code>` : piece))}`;
}

/** A whole page in Purser's plain style; needs no script. */
export function page(options: { title: string; body: Html; wide?: boolean }): string {
  const document = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${options.title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/api/docs/style.css">
</head>
<body${options.wide ? html` class="wide"` : ''}>
${options.body}
</body>
</html>
`;
  return document[HTML];
}
