import { render } from '@react-email/components';
import type { NotificationKind } from './kinds.ts';
import { MailLayout } from './MailLayout.tsx';
import { type Brand, type MailContent, writeMail } from './mailContent.ts';

export interface RenderedMail {
  subject: string;
  html: string;
  text: string;
}

/** Errors: `MailDataError`. */
export async function renderMail(
  kind: NotificationKind,
  data: unknown,
  brand: Brand,
): Promise<RenderedMail> {
  const content = writeMail(kind, data, brand);
  return {
    subject: content.subject,
    html: await render(<MailLayout content={content} brand={brand} />),
    text: toText(content, brand),
  };
}

function toText(content: MailContent, brand: Brand): string {
  const { heading, paragraphs, facts, action, links, reason } = content;
  const blocks = [
    heading,
    ...paragraphs,
    facts.map(([label, value]) => `${label}: ${value}`).join('\n'),
    [...(action === null ? [] : [action]), ...links]
      .map(({ label, url }) => `${label}: ${url}`)
      .join('\n'),
    `--\n${reason}${brand.support === null ? '' : `\nQuestions? ${brand.support}`}`,
  ];
  return `${blocks.filter((block) => block !== '').join('\n\n')}\n`;
}
