import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { idempotencyKey } from '../../src/notifications/mailIds.ts';
import { createResendTransport } from '../../src/notifications/resendTransport.ts';
import { createSmtpTransport } from '../../src/notifications/smtpTransport.ts';
import type { Mail, MailTransport } from '../../src/notifications/transport.ts';
import { type HttpRecorder, json, startHttpRecorder } from '../support/httpRecorder.ts';
import { type SmtpBehaviour, type SmtpServer, startSmtpServer } from '../support/smtpServer.ts';

const FROM = '"Example, Inc." <billing@example.com>';
const mail: Mail = {
  key: 'receipt:checkout:cs_1',
  to: 'ada@example.com',
  subject: 'Your receipt: 50 credits',
  html: '<p>Fünfzig</p>',
  text: 'Fünfzig\n',
  date: new Date('2026-11-21T10:00:00Z'),
};

async function failure(work: Promise<unknown>) {
  return work.then(
    () => {
      throw new Error('it was sent');
    },
    (error: Error & { permanent?: boolean; retryAfterSeconds?: number }) => ({
      name: error.name,
      message: error.message,
      permanent: error.permanent,
      retryAfterSeconds: error.retryAfterSeconds,
    }),
  );
}

describe('SMTP', () => {
  let server: SmtpServer;
  const transport = (secondsMax = 20): MailTransport =>
    createSmtpTransport({ url: server.url, from: FROM, secondsMax });

  beforeEach(async () => {
    server = await startSmtpServer();
  });
  afterEach(() => server.stop());

  it('hands over one mail with both parts, to one reader', async () => {
    const { providerId } = await transport().send(mail);
    const [got] = server.mails;
    expect(server.mails).toHaveLength(1);
    expect(got).toMatchObject({ from: 'billing@example.com', to: ['ada@example.com'] });
    expect(got?.header('from')).toBe('"Example, Inc." <billing@example.com>');
    expect(got?.header('subject')).toBe(mail.subject);
    expect(got?.header('auto-submitted')).toBe('auto-generated');
    expect(got?.header('message-id')).toBe(providerId);
    expect(got?.source).toMatch(/text\/plain[\s\S]*text\/html/);
  });

  it('gives a repeat the id of the first, by which readers can tell', async () => {
    server.behaviour = 'acceptsSilently';
    expect(await failure(transport().send(mail))).toMatchObject({ permanent: false });
    server.behaviour = 'accepts';
    await transport().send(mail);
    const [first, second] = server.mails.map((each) => each.header('message-id'));
    expect(first).toBe(`<${idempotencyKey(mail.key)}@example.com>`);
    expect(second).toBe(first);
  });

  it.each<SmtpBehaviour>(['hangs', 'hangsAfterData', 'drips'])(
    'waits no longer than its bound for a server that %s',
    async (behaviour) => {
      server.behaviour = behaviour;
      expect(await failure(transport(0.3).send(mail))).toEqual({
        name: 'SendError',
        message: 'The mail server 127.0.0.1 gave no answer within 0.3 s.',
        permanent: false,
        retryAfterSeconds: 0,
      });
    },
  );

  it('gives an address up that the server refuses, and nothing that it refuses for now', async () => {
    server.behaviour = 'refusesAddress';
    expect(await failure(transport().send(mail))).toMatchObject({
      permanent: true,
      message: expect.stringContaining('550'),
    });
    server.behaviour = 'refusesForNow';
    expect(await failure(transport().send(mail))).toMatchObject({
      permanent: false,
      message: expect.stringContaining('451'),
    });
  });

  it('tries again when nobody listens', async () => {
    const gone = await startSmtpServer();
    await gone.stop();
    const sender = createSmtpTransport({ url: gone.url, from: FROM });
    expect(await failure(sender.send(mail))).toMatchObject({
      permanent: false,
      message: expect.stringContaining('ECONNREFUSED'),
    });
  });

  it('lets no text add a header or a reader', async () => {
    await transport().send({
      ...mail,
      subject: 'Hello\r\nBcc: eve@example.com\r\n\r\nbody',
    });
    expect(server.mails[0]?.to).toEqual(['ada@example.com']);
    expect(server.mails[0]?.header('bcc')).toBeNull();
    expect(server.commands.filter((line) => line.startsWith('RCPT'))).toHaveLength(1);
  });

  it('sends no password over a line that is not encrypted, except to this machine', async () => {
    const login = (host: string) =>
      createSmtpTransport({
        url: server.url.replace('127.0.0.1', `user:secret@${host}`),
        from: FROM,
      });
    // A name of this machine that is not known as one.
    expect(await failure(login('localhost.').send(mail))).toMatchObject({ permanent: false });
    expect(server.commands.filter((line) => line.startsWith('AUTH'))).toEqual([]);
    await login('127.0.0.1').send(mail);
    expect(server.commands.filter((line) => line.startsWith('AUTH'))).toHaveLength(1);
  });
});

describe('Resend', () => {
  let server: HttpRecorder;
  const transport = (secondsMax = 20): MailTransport =>
    createResendTransport({ apiKey: 're_test', from: FROM, apiBase: server.url, secondsMax });

  beforeEach(async () => {
    server = await startHttpRecorder(json(200, { id: 'em_1' }));
  });
  afterEach(() => server.stop());

  it('sends a mail by one call, under the key of the notification', async () => {
    expect(await transport().send(mail)).toEqual({ providerId: 'em_1' });
    const [sent] = server.requests;
    expect(server.requests).toHaveLength(1);
    expect(sent).toMatchObject({ method: 'POST', path: '/emails' });
    expect(sent?.headers).toMatchObject({
      authorization: 'Bearer re_test',
      'idempotency-key': idempotencyKey(mail.key),
    });
    expect(sent?.body).toMatchObject({
      from: FROM,
      to: ['ada@example.com'],
      subject: mail.subject,
      html: mail.html,
      text: mail.text,
    });
  });

  it('takes a mail that Resend has sent under this key for sent', async () => {
    server.reply = json(409, { name: 'invalid_idempotent_request', message: 'other payload' });
    expect(await transport().send(mail)).toEqual({ providerId: null });
  });

  it.each([
    [422, { name: 'validation_error', message: 'Invalid `to`' }, true],
    [422, { name: 'invalid_from_address', message: 'Invalid `from`' }, false],
    [401, { name: 'restricted_api_key', message: 'no' }, false],
    [409, { name: 'concurrent_idempotent_requests', message: 'wait' }, false],
    [500, { name: 'application_error', message: 'oops' }, false],
  ])('answers %d %j: given up for good is %p', async (status, body, permanent) => {
    server.reply = json(status, body);
    expect(await failure(transport().send(mail))).toMatchObject({
      permanent,
      message: `Resend answered ${status} ${body.name}: ${body.message}`,
    });
  });

  it('waits as long as Resend asks, an hour at most', async () => {
    server.reply = json(429, { name: 'rate_limit_exceeded' }, { 'retry-after': '120' });
    expect(await failure(transport().send(mail))).toMatchObject({ retryAfterSeconds: 120 });
    server.reply = json(429, {}, { 'retry-after': '999999' });
    expect(await failure(transport().send(mail))).toMatchObject({ retryAfterSeconds: 3600 });
  });

  it('waits no longer than its bound, follows no redirect, and reads no endless answer', async () => {
    server.reply = () => {};
    expect(await failure(transport(0.3).send(mail))).toMatchObject({
      message: 'Resend gave no answer within 0.3 s.',
    });
    server.reply = (response) => response.writeHead(307, { location: `${server.url}/other` }).end();
    expect(await failure(transport().send(mail))).toMatchObject({
      message: 'Resend answered with a redirect, which is not followed.',
    });
    expect(server.requests.some(({ path }) => path === '/other')).toBe(false);
    server.reply = (response) => {
      const timer = setInterval(() => response.write('x'.repeat(1024)), 1);
      response.on('close', () => clearInterval(timer));
    };
    expect(await transport().send(mail)).toEqual({ providerId: null });
  });
});
