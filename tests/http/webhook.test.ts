import { gzipSync } from 'node:zlib';
import { describe, expect, it } from '@jest/globals';
import request from 'supertest';
import { testApp } from './support/testApp.ts';

const post = (app: Parameters<typeof request>[0]) =>
  request(app)
    .post('/api/webhooks/stripe')
    .set({ 'content-type': 'application/json', 'stripe-signature': 'good' });

describe('POST /api/webhooks/stripe', () => {
  it.each([
    ['odd white space', ' {\n  "id" :\t"evt_1" }\n'],
    ['escapes and accents', '{"id":"\\u00e9 é 😀"}'],
    ['a byte order mark', '\ufeff{"id":"evt_1"}'],
    ['what is not JSON', 'not json'],
    ['invalid UTF-8', Buffer.from([0x7b, 0xff, 0xfe, 0x7d])],
  ])('hands on the very bytes of %s', async (_name, body) => {
    const { app, calls } = testApp();
    await post(app)
      .serialize((value: unknown) => value as string)
      .send(body as string)
      .expect(200);
    const received = calls[0]?.args[0];
    expect(Buffer.isBuffer(received)).toBe(true);
    expect(received).toEqual(Buffer.from(body as string));
    expect(calls[0]?.args[1]).toBe('good');
  });

  it.each([
    'application/json',
    'application/json; charset=utf-8',
    'application/json;charset="UTF-8"',
  ])('takes %s', async (type) => {
    const { app } = testApp();
    const response = await post(app).set('content-type', type).send('{"id":"evt_1"}').expect(200);
    expect(response.body).toEqual({ received: true, duplicate: false });
  });

  it('takes a chunked body', async () => {
    const { app, calls } = testApp();
    const call = post(app).set('transfer-encoding', 'chunked');
    call.write('{"id":');
    call.write('"evt_1"}');
    expect((await call).status).toBe(200);
    expect(String(calls[0]?.args[0])).toBe('{"id":"evt_1"}');
  });

  it.each([
    ['a form', { 'content-type': 'application/x-www-form-urlencoded' }, 'id=evt_1'],
    ['text', { 'content-type': 'text/plain' }, '{}'],
    ['UTF-16', { 'content-type': 'application/json; charset=utf-16' }, '{}'],
    ['gzip', { 'content-encoding': 'gzip' }, gzipSync('{"id":"evt_1"}')],
    ['an unknown encoding', { 'content-encoding': 'zstd' }, '{}'],
  ])('refuses %s with 415', async (_name, headers, body) => {
    const { app, calls } = testApp();
    const response = await post(app)
      .set(headers as Record<string, string>)
      .serialize((value: unknown) => value as string)
      .send(body as string)
      .expect(415);
    expect(response.body.code).toBe('unsupported_media_type');
    expect(calls).toEqual([]);
  });

  it('takes 1 MB and refuses more with 413', async () => {
    const { app } = testApp();
    const body = (bytes: number) => `{"a":"${'x'.repeat(bytes - 8)}"}`;
    await post(app)
      .send(body(1024 * 1024))
      .expect(200);
    await post(app)
      .send(body(1024 * 1024 + 1))
      .expect(413);
    await post(app)
      .send(body(2 * 1024 * 1024))
      .expect(413);
  });

  it('hands on a missing signature for the domain to refuse', async () => {
    const { app, calls } = testApp();
    const response = await request(app)
      .post('/api/webhooks/stripe')
      .set('content-type', 'application/json')
      .send('{}')
      .expect(400);
    expect(response.body.code).toBe('invalid_signature');
    expect(calls[0]?.args[1]).toBeUndefined();
  });

  it('refuses an empty body with 400', async () => {
    const { app, calls } = testApp();
    const response = await request(app)
      .post('/api/webhooks/stripe')
      .set('stripe-signature', 'good')
      .expect(400);
    expect(response.body.code).toBe('invalid_request');
    expect(calls).toEqual([]);
  });

  it('needs no credential, and does not mind a strange one', async () => {
    const { app } = testApp();
    await post(app).set('authorization', 'Basic x').send('{"id":"evt_1"}').expect(200);
  });
});
