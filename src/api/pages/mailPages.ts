import type { IRouter, RequestHandler, Response } from 'express';
import type { NotificationRecord } from '../../notifications/notifications.ts';
import type { AppDeps } from '../deps.ts';
import { html, page } from './html.ts';

const LATEST = 50;

/** A mail is a document of others' styles: it may draw itself, and reach nothing. */
const MAIL_POLICY =
  "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'";

/**
 * The outbox of a local server, at /mail: every mail it would send, and each kind with made-up data.
 * Mounted where every part is embedded only: elsewhere the mails are somebody's.
 */
export function mountMail(
  router: IRouter,
  { settings, notifications }: Pick<AppDeps, 'settings' | 'notifications'>,
): void {
  if (!settings.allEmbedded) return;

  const show =
    (read: (name: string) => Promise<{ html: string; text: string } | null>): RequestHandler =>
    async (request, response, next) => {
      const mail = await read(String(request.params.name));
      if (mail === null) return next();
      response.setHeader('Cache-Control', 'no-store');
      if (request.query.as === 'text') {
        response.type('text/plain').send(mail.text);
        return;
      }
      response.setHeader('Content-Security-Policy', MAIL_POLICY);
      response.type('html').send(mail.html);
    };

  router.get('/mail', async (_request, response: Response) => {
    const { data } = await notifications.list({ limit: LATEST });
    response.setHeader('Cache-Control', 'no-store');
    const sends = settings.mail.smtpUrl !== null || settings.mail.resendApiKey !== null;
    response.type('html').send(mailIndexPage(data, notifications.samples, sends));
  });
  router.get(
    '/mail/samples/:name',
    show((name) => notifications.sample(name)),
  );
  router.get(
    /^\/mail\/(?<name>[1-9]\d{0,17})$/,
    show(async (id) => (await notifications.get(id)).mail),
  );
}

/** A mail that is forgotten for its age has nothing to show. */
function mailLinks({ id, kind, subject, forgotten_at: forgotten }: NotificationRecord) {
  const name = subject ?? kind;
  return forgotten === null
    ? html`<a href="/mail/${id}">${name}</a> <a class="soft" href="/mail/${id}?as=text">text</a>`
    : name;
}

/** In UTC, to the minute, on one line. */
function writtenAt(iso: string) {
  const shown = `${iso.slice(0, 10)}\u00a0${iso.slice(11, 16)}`.replaceAll('-', '\u2011');
  return html`<time datetime="${iso}">${shown}</time>`;
}

function mailIndexPage(
  latest: NotificationRecord[],
  samples: readonly string[],
  sends: boolean,
): string {
  const mails = latest.filter(({ kind }) => kind !== 'alert');
  return page({
    title: 'Mail - Purser',
    wide: true,
    body: html`<main><h1>Mail</h1>
<p class="lead">${
      sends
        ? 'What this server has written to customers.'
        : html`This server sends no mail: what it would send is kept here. Set <code>SMTP_URL</code> or <code>RESEND_API_KEY</code>, and <code>EMAIL_FROM</code>, to send it.`
    }</p>
<h2>Outbox</h2>
${
  mails.length === 0
    ? html`<p class="soft">Nothing yet. Buy something on <a href="/pricing">the pricing page</a>, and its receipt appears here within seconds.</p>`
    : html`<div class="scroll"><table><tr><th scope="col">Mail</th><th scope="col">To</th><th scope="col">Status</th><th scope="col">Written (UTC)</th></tr>
${mails.map(
  (mail) =>
    html`<tr><td>${mailLinks(mail)}</td><td>${mail.to ?? mail.user_id ?? ''}</td><td>${mail.status}${mail.error === null ? '' : html` <span class="soft">${mail.error}</span>`}</td><td>${writtenAt(mail.created_at)}</td></tr>`,
)}</table></div>`
}
<h2>Every kind, with made-up data</h2>
<ul>${samples.map((name) => html`<li><a href="/mail/samples/${name}">${name}</a> <a class="soft" href="/mail/samples/${name}?as=text">text</a></li>`)}</ul></main>`,
  });
}
