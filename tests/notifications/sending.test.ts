import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { SEND_RETRY_SECONDS } from '../../src/notifications/sendDue.ts';
import { createSmtpTransport } from '../../src/notifications/smtpTransport.ts';
import { type SmtpServer, startSmtpServer } from '../support/smtpServer.ts';
import { outboxWorld } from './outboxWorld.ts';

const world = outboxWorld();
let server: SmtpServer;
const smtp = (secondsMax = 20) =>
  createSmtpTransport({ url: server.url, from: 'billing@example.com', secondsMax });

const receipt = (user: string, key = `receipt:${user}`) => ({
  key,
  notification: 'purchase_receipt',
  user_id: user,
  data: { name: '50 credits', credits: 50, amount: 500, currency: 'usd' },
});

beforeEach(async () => {
  server = await startSmtpServer();
});
afterEach(() => server.stop());

describe('the outbox', () => {
  it('keeps one message for one cause, and sends it once', async () => {
    await world.user('once', 50);
    expect(await world.enqueue(receipt('once'))).toBe('queued');
    expect(await world.enqueue(receipt('once'))).toBe('exists');
    const transport = smtp();
    const reports = await Promise.all([world.send({ transport }), world.send({ transport })]);
    expect(reports.reduce((sum, { sent }) => sum + sent, 0)).toBe(1);
    expect(server.mails.map(({ to }) => to)).toEqual([['once@example.com']]);
    expect(await world.rows()).toMatchObject([
      { status: 'sent', transport: 'smtp', sent_to: 'once@example.com', attempts: 1 },
    ]);
    await world.letTimePass();
    expect(await world.send({ transport })).toMatchObject({ sent: 0 });
  });

  it('tells the balance of the moment it is sent, the same in each attempt', async () => {
    await world.user('balance', 50);
    await world.enqueue(receipt('balance'));
    server.behaviour = 'acceptsSilently';
    await world.send({ transport: smtp() });
    await world.call('consume_credits', { p_user_id: 'balance', p_amount: 20, p_key: 'consume:1' });
    server.behaviour = 'accepts';
    await world.letTimePass();
    await world.send({ transport: smtp() });
    const [first, second] = server.mails.map(({ source }) => /New balance: (.*)/.exec(source)?.[1]);
    expect([first, second]).toEqual(['50 credits', '50 credits']);
  });

  it('is where mails stay when no transport is set, as they would read', async () => {
    await world.user('kept', 7);
    await world.enqueue(receipt('kept'));
    expect(await world.send()).toMatchObject({ kept: 1, sent: 0 });
    const [{ id = '' } = {}] = (await world.notifications.list({ userId: 'kept' })).data;
    expect(await world.notifications.get(id)).toMatchObject({
      status: 'kept',
      transport: 'outbox',
      to: 'kept@example.com',
      subject: 'Your receipt: 50 credits',
      mail: {
        subject: 'Your receipt: 50 credits',
        text: expect.stringContaining('Your new balance is 7 credits.'),
        html: expect.stringContaining('Example'),
      },
    });
    // With a transport it can still go.
    await world.notifications.retry(id, 'admin:1');
    expect(await world.send({ transport: smtp() })).toMatchObject({ sent: 1 });
    await expect(world.notifications.retry(id, 'admin:1')).rejects.toMatchObject({
      code: 'invalid_request',
    });
    expect(
      await world.query(
        "select actor, action from audit_events where action = 'retry_notification'",
      ),
    ).toEqual([{ actor: 'admin:1', action: 'retry_notification' }]);
  });

  it('drops what has no reader, is switched off, or is no longer so', async () => {
    await world.user('nobody', 5, null);
    await world.enqueue(receipt('nobody'));
    await world.user('off', 5);
    await world.enqueue(receipt('off'));
    await world.user('rich', 500);
    await world.enqueue({
      key: 'low',
      notification: 'low_balance',
      user_id: 'rich',
      data: { threshold: 10 },
    });
    const transport = smtp();
    await world.send({ transport, off: new Set(['purchase_receipt']) });
    expect(
      (await world.rows()).map(({ status, error_message }) => [status, error_message]),
    ).toEqual([
      ['dropped', 'there is no address to send it to'],
      ['dropped', 'mails of this kind are switched off'],
      ['dropped', 'the balance is above the threshold again'],
    ]);
    expect(server.mails).toEqual([]);
  });

  it('sends to the address Stripe collected where the account has none', async () => {
    await world.user('without', 5, null);
    const message = receipt('without');
    await world.enqueue({
      ...message,
      data: { ...message.data, buyer_email: 'buyer@example.com' },
    });
    await world.send({ transport: smtp() });
    expect(server.mails.map(({ to }) => to)).toEqual([['buyer@example.com']]);
  });

  it('reads the links of a receipt when it is sent, and goes without them in the end', async () => {
    await world.user('links', 5);
    const data = { ...receipt('links').data, invoice_id: 'in_1', payment_intent_id: 'pi_1' };
    await world.enqueue({ ...receipt('links'), data });
    await world.send({
      receiptLinks: async (purchase) => {
        expect(purchase).toEqual({ invoice_id: 'in_1', payment_intent_id: 'pi_1' });
        return { invoice_url: 'https://invoice.example/1', receipt_url: null };
      },
    });
    expect((await world.rows())[0]?.data).toMatchObject({
      invoice_url: 'https://invoice.example/1',
    });

    await world.enqueue({ ...receipt('links', 'receipt:again'), data });
    const receiptLinks = async () => Promise.reject(new Error('Stripe is down'));
    for (let attempt = 1; attempt <= 3; attempt += 1) {
      await world.send({ receiptLinks });
      await world.letTimePass();
    }
    expect((await world.rows()).at(-1)).toMatchObject({ status: 'kept', attempts: 3 });
  });
});

describe('a mail server that fails', () => {
  it('delays messages, further each time, until they need a person', async () => {
    await world.user('late', 50);
    await world.enqueue(receipt('late'));
    server.behaviour = 'refusesForNow';
    const waits: number[] = [];
    for (let attempt = 1; attempt <= SEND_RETRY_SECONDS.length; attempt += 1) {
      expect(await world.send({ transport: smtp() })).toMatchObject({ failed: 1 });
      waits.push((await world.rows('purchase_receipt'))[0]?.waits_seconds ?? 0);
      await world.letTimePass();
    }
    for (const [index, seconds] of SEND_RETRY_SECONDS.entries()) {
      expect(waits[index]).toBeGreaterThan(seconds * 0.8);
      expect(waits[index]).toBeLessThanOrEqual(seconds);
    }
    expect(await world.send({ transport: smtp() })).toMatchObject({ dead: 1 });
    expect((await world.rows('purchase_receipt'))[0]).toMatchObject({
      status: 'dead',
      attempts: SEND_RETRY_SECONDS.length + 1,
      error_message: expect.stringContaining('451'),
    });
    expect(await world.alerts.list()).toMatchObject([{ code: 'notifications_dead', times: 1 }]);
  });

  it('that is down costs the first of a queue an attempt, not all of it', async () => {
    await world.user('queue', 50);
    for (let n = 0; n < 30; n += 1) await world.enqueue(receipt('queue', `receipt:queue:${n}`));
    server.behaviour = 'refusesForNow';
    expect(await world.send({ transport: smtp() })).toMatchObject({ failed: 5, sent: 0 });
    server.behaviour = 'accepts';
    expect(await world.send({ transport: smtp() })).toMatchObject({ sent: 25 });
    await world.letTimePass();
    expect(await world.send({ transport: smtp() })).toMatchObject({ sent: 5 });
    expect(new Set(server.mails.map((mail) => mail.header('message-id'))).size).toBe(30);
  });

  it('that refuses one address gives that one up, and sends the rest', async () => {
    await world.user('refused', 50);
    await world.enqueue(receipt('refused'));
    server.behaviour = 'refusesAddress';
    expect(await world.send({ transport: smtp() })).toMatchObject({ dead: 1 });
    expect((await world.rows('purchase_receipt'))[0]).toMatchObject({
      attempts: 1,
      status: 'dead',
    });
  });

  it('that hangs is left, and a run that died is taken up by the next', async () => {
    await world.user('hung', 50);
    await world.enqueue(receipt('hung'));
    server.behaviour = 'hangs';
    expect(await world.send({ transport: smtp(0.3) })).toMatchObject({ failed: 1 });
    await world.letTimePass();
    // A worker that took it and died.
    const [taken] = (await world.call('claim_notifications', {
      p_holder: 'dead worker',
    })) as unknown as { id: number; fence: number }[];
    server.behaviour = 'accepts';
    expect(await world.send({ transport: smtp() })).toMatchObject({ sent: 0 });
    await world.letTimePass();
    expect(await world.send({ transport: smtp() })).toMatchObject({ sent: 1 });
    const late = await world.call('finish_notification', {
      p_id: taken?.id ?? 0,
      p_fence: taken?.fence ?? 0,
      p_outcome: 'failed',
    });
    expect(late).toEqual({ outcome: 'stale' });
    expect((await world.rows('purchase_receipt'))[0]).toMatchObject({ status: 'sent' });
  });

  it('gets nothing whose data makes no mail, or whose address is two', async () => {
    await world.user('odd', 50);
    await world.enqueue({ ...receipt('odd'), data: { name: 5 } });
    await world.enqueue({ ...receipt('odd', 'two'), recipient: 'a@example.com, b@example.com' });
    await world.enqueue({ ...receipt('odd', 'kind'), notification: 'newsletter' });
    expect(await world.send({ transport: smtp() })).toMatchObject({ dead: 3 });
    expect(server.mails).toEqual([]);
  });
});

describe('the lease', () => {
  it('is given back to the same call, whose answer was lost', async () => {
    await world.user('lease', 50);
    await world.enqueue(receipt('lease'));
    const claim = (holder: string) =>
      world.call('claim_notifications', { p_holder: holder }) as Promise<unknown>;
    const first = await claim('one');
    expect(await claim('two')).toEqual([]);
    expect(await claim('one')).toEqual(first);
    const [message] = first as { id: number; fence: number; attempt: number }[];
    expect(message?.attempt).toBe(1);
    const finish = () =>
      world.call('finish_notification', {
        p_id: message?.id ?? 0,
        p_fence: message?.fence ?? 0,
        p_outcome: 'sent',
      });
    expect(await finish()).toEqual({ outcome: 'sent' });
    expect(await finish()).toEqual({ outcome: 'sent' });
  });

  it('ends a message that kills whoever takes it up', async () => {
    await world.user('poison', 50);
    await world.enqueue(receipt('poison'));
    for (let n = 0; n < 21; n += 1) {
      await world.call('claim_notifications', { p_holder: `worker ${n}` });
      await world.letTimePass();
    }
    expect((await world.rows())[0]).toMatchObject({ status: 'dead', attempts: 20 });
  });
});
