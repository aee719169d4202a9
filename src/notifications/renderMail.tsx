import { render } from '@react-email/components';
import { z } from 'zod';
import {
  MailDataError,
  NOTIFICATION_DATA,
  type NotificationData,
  type NotificationKind,
} from './kinds.ts';
import { MailLayout } from './MailLayout.tsx';
import { type Brand, type MailContent, writeMail } from './mailContent.ts';

export interface RenderedMail {
  subject: string;
  html: string;
  text: string;
}

/** Errors: `MailDataError` when the data is not what its kind is told with. */
export async function renderMail(
  kind: NotificationKind,
  data: unknown,
  brand: Brand,
): Promise<RenderedMail> {
  const parsed = NOTIFICATION_DATA[kind].safeParse(data);
  if (!parsed.success) {
    throw new MailDataError(
      `The data of a message of kind ${kind} is not right:\n${z.prettifyError(parsed.error)}`,
    );
  }
  const content = writeMail(kind, parsed.data as NotificationData[typeof kind], brand);
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
