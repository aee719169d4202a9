import { describe, expect, it } from '@jest/globals';
import request from 'supertest';
import { bearer, EMBEDDED_ENV, SERVICE_KEY, testApp } from './support/testApp.ts';

const service = { ...bearer(SERVICE_KEY), 'idempotency-key': 'k1' };
const user = { 'x-user-id': 'u1' };

/** Sends a body as it is written, which `send` would tidy up. */
const raw = (text: string) => ({ text });

describe('POST /api/credits/consume', () => {
  const refused: [string, unknown, string][] = [
    ['a negative amount', { user_id: 'u1', amount: -5 }, 'amount'],
    ['zero', { user_id: 'u1', amount: 0 }, 'amount'],
    ['a fraction', { user_id: 'u1', amount: 1.5 }, 'amount'],
    ['a number in a string', { user_id: 'u1', amount: '5' }, 'amount'],
    ['infinity', raw('{"user_id":"u1","amount":1e309}'), 'amount'],
    ['2^53', raw('{"user_id":"u1","amount":9007199254740992}'), 'amount'],
    ['null', { user_id: 'u1', amount: null }, 'amount'],
    ['a list', { user_id: 'u1', amount: [] }, 'amount'],
    ['no amount', { user_id: 'u1' }, 'amount'],
    ['amount and feature', { user_id: 'u1', amount: 5, feature: 'image' }, 'amount'],
    ['units without feature', { user_id: 'u1', amount: 5, units: 2 }, 'units'],
    ['units of zero', { user_id: 'u1', feature: 'image', units: 0 }, 'units'],
    ['no user', { amount: 5 }, 'user_id'],
    ['an empty user', { user_id: '', amount: 5 }, 'user_id'],
    ['a user of 256 bytes', { user_id: 'x'.repeat(256), amount: 5 }, 'user_id'],
    ['a user of 256 bytes in fewer characters', { user_id: 'é'.repeat(128), amount: 5 }, 'user_id'],
    ['a user with a NUL', { user_id: 'u\u00001', amount: 5 }, 'user_id'],
    ['a user with a line break', { user_id: 'u\n1', amount: 5 }, 'user_id'],
    ['a user with a line separator', { user_id: 'u\u20281', amount: 5 }, 'user_id'],
    ['a user with half a character', raw('{"user_id":"u\\ud800","amount":5}'), 'user_id'],
    ['a numeric user', { user_id: 1, amount: 5 }, 'user_id'],
    ['an unknown field', { user_id: 'u1', amount: 5, balance: 99 }, 'balance'],
    [
      'a field of the database',
      { user_id: 'u1', amount: 5, credits_balance: 99 },
      'credits_balance',
    ],
    [
      'a long description',
      { user_id: 'u1', amount: 5, description: 'x'.repeat(501) },
      'description',
    ],
    [
      'a NUL in the description',
      { user_id: 'u1', amount: 5, description: '\u0000' },
      'description',
    ],
    ['metadata as text', { user_id: 'u1', amount: 5, metadata: 'x' }, 'metadata'],
    ['metadata as a list', { user_id: 'u1', amount: 5, metadata: [] }, 'metadata'],
    ['large metadata', { user_id: 'u1', amount: 5, metadata: { a: 'x'.repeat(8200) } }, 'metadata'],
    ['a NUL in metadata', { user_id: 'u1', amount: 5, metadata: { a: ['\u0000'] } }, 'metadata'],
    [
      'an inner __proto__',
      raw('{"user_id":"u1","amount":5,"metadata":{"a":{"__proto__":{"x":1}}}}'),
      'metadata',
    ],
  ];
  it.each(refused)('refuses %s with 400 and names the field', async (_name, body, field) => {
    const { app, calls } = testApp();
    const text = body !== null && typeof body === 'object' && 'text' in body ? body.text : null;
    const response = await request(app)
      .post('/api/credits/consume')
      .set({ ...service, 'content-type': 'application/json' })
      .send((text ?? JSON.stringify(body)) as string)
      .expect(400);
    expect(response.body.code).toBe('invalid_request');
    expect(response.body.errors.map(({ path }: { path: string }) => path)).toContain(field);
    expect(response.body.detail).toContain(field);
    expect(calls).toEqual([]);
  });

  it('takes the largest amount there is', async () => {
    const { app, calls } = testApp();
    await request(app)
      .post('/api/credits/consume')
      .set(service)
      .send({ user_id: 'u1', amount: Number.MAX_SAFE_INTEGER })
      .expect(200);
    expect(calls[0]?.args[0]).toMatchObject({ amount: Number.MAX_SAFE_INTEGER });
  });

  it('reports all that is wrong at once', async () => {
    const { app } = testApp();
    const response = await request(app)
      .post('/api/credits/consume?verbose=1')
      .set(service)
      .send({ amount: -1, metadata: 1, extra: true })
      .expect(400);
    const paths = response.body.errors.map(({ path }: { path: string }) => path);
    expect(paths.sort()).toEqual(['amount', 'extra', 'metadata', 'query.verbose', 'user_id']);
  });

  it.each([
    ['missing', undefined, 'idempotency_key_missing'],
    ['empty', '', 'idempotency_key_missing'],
    ['too long', 'x'.repeat(256), 'invalid_request'],
    ['not ASCII', 'schl\u00fcssel', 'invalid_request'],
    ['with a tab', 'a\tb', 'invalid_request'],
    ['sent twice', ['a', 'b'], 'invalid_request'],
  ])('refuses an Idempotency-Key that is %s', async (_name, key, code) => {
    const { app, calls } = testApp();
    const response = await request(app)
      .post('/api/credits/consume')
      .set({
        ...bearer(SERVICE_KEY),
        ...(key === undefined ? {} : { 'idempotency-key': key }),
      } as never)
      .send({ user_id: 'u1', amount: 5 })
      .expect(400);
    expect(response.body.code).toBe(code);
    expect(calls).toEqual([]);
  });

  it('takes a key of 255 printable characters', async () => {
    const { app } = testApp();
    await request(app)
      .post('/api/credits/consume')
      .set({ ...bearer(SERVICE_KEY), 'idempotency-key': `~ ${'x'.repeat(253)}` })
      .send({ user_id: 'u1', amount: 5 })
      .expect(200);
  });
});

describe('POST /api/credits/consume-batch', () => {
  const good = { user_id: 'u1', amount: 5, idempotency_key: 'k' };
  const send = (body: unknown) => {
    const { app, calls } = testApp();
    const response = request(app)
      .post('/api/credits/consume-batch')
      .set(bearer(SERVICE_KEY))
      .send(body as object);
    return { response, calls };
  };

  it.each<[string, unknown, string]>([
    ['no operations', {}, 'operations'],
    ['an empty list', { operations: [] }, 'operations'],
    ['501 operations', { operations: Array(501).fill(good) }, 'operations'],
    ['an amount of zero', { operations: [good, { ...good, amount: 0 }] }, 'operations.1.amount'],
    [
      'no key',
      { operations: [good, good, { user_id: 'u1', amount: 1 }] },
      'operations.2.idempotency_key',
    ],
    ['an empty user', { operations: [{ ...good, user_id: '' }] }, 'operations.0.user_id'],
    ['amount and feature', { operations: [{ ...good, feature: 'image' }] }, 'operations.0.amount'],
    ['an unknown field', { operations: [good, { ...good, price: 1 }] }, 'operations.1.price'],
    [
      'large metadata',
      { operations: [{ ...good, metadata: { a: 'x'.repeat(8200) } }] },
      'operations.0.metadata',
    ],
    [
      'an unknown feature',
      { operations: [good, { user_id: 'u1', feature: 'nonsense', idempotency_key: 'k' }] },
      'operations.1',
    ],
  ])('refuses %s with 400 and names the operation', async (_name, body, path) => {
    const { response, calls } = send(body);
    const { body: problem } = await response.expect(400);
    expect(problem.code).toBe('invalid_request');
    expect(problem.errors.map((error: { path: string }) => error.path)).toContain(path);
    expect(calls).toEqual([]);
  });

  it('refuses more than 256 KB with 413', async () => {
    const description = 'x'.repeat(500);
    const { response, calls } = send({
      operations: Array(480).fill({ ...good, description }),
    });
    expect((await response.expect(413)).body.code).toBe('payload_too_large');
    expect(calls).toEqual([]);
  });

  it('prices features, and hands over all operations in one call', async () => {
    const { response, calls } = send({
      operations: [{ user_id: 'u1', feature: 'image', units: 3, idempotency_key: 'a' }, good],
    });
    await response.expect(200);
    expect(calls).toMatchObject([
      {
        name: 'consumeBatch',
        args: [
          [
            { userId: 'u1', amount: 15, idempotencyKey: 'a' },
            { userId: 'u1', amount: 5, idempotencyKey: 'k' },
          ],
        ],
      },
    ]);
  });
});

describe('bodies', () => {
  const consume = (app: Parameters<typeof request>[0]) =>
    request(app).post('/api/credits/consume').set(service);

  it.each([
    ['malformed JSON', '{"user_id": "u1", "amount": 5'],
    ['a bare value', '5'],
    ['null', 'null'],
    ['text after the end', '{} {}'],
    ['nothing but white space', '  '],
    ['nested 10,000 levels deep', `{"metadata":${'['.repeat(10_000)}${']'.repeat(10_000)}}`],
    [
      'nested 33 levels deep',
      `{"user_id":"u1","amount":1,"metadata":${'{"a":'.repeat(33)}1${'}'.repeat(33)}}`,
    ],
    [
      '20,000 unknown fields',
      JSON.stringify(Object.fromEntries(Array.from({ length: 20_000 }, (_, i) => [`f${i}`, 1]))),
    ],
  ])('refuses %s with 400', async (_name, text) => {
    const { app } = testApp();
    const response = await consume(app).set('content-type', 'application/json').send(text);
    expect(response.status).toBe(400);
    expect(response.body.code).toBe('invalid_request');
    expect(response.text.length).toBeLessThan(4_000);
  });

  it('says that a body is missing', async () => {
    const { app } = testApp();
    const response = await consume(app).expect(400);
    expect(response.body.detail).toBe('the body is required.');
  });

  it.each([
    ['257 KB', 257],
    ['2 MB', 2048],
  ])('refuses %s with 413', async (_name, kilobytes) => {
    const { app } = testApp();
    const response = await consume(app)
      .set('content-type', 'application/json')
      .send(`{"description":"${'x'.repeat(kilobytes * 1024)}"}`);
    expect(response.status).toBe(413);
    expect(response.body.code).toBe('payload_too_large');
  });

  it.each([
    ['a form', 'application/x-www-form-urlencoded', 'user_id=u1&amount=5'],
    ['text', 'text/plain', '{"user_id":"u1","amount":5}'],
    ['UTF-16', 'application/json; charset=utf-16', '{"user_id":"u1","amount":5}'],
    ['Latin-1', 'application/json; charset=iso-8859-1', '{"user_id":"u1","amount":5}'],
  ])('refuses %s with 415', async (_name, type, text) => {
    const { app, calls } = testApp();
    const response = await consume(app).set('content-type', type).send(text).expect(415);
    expect(response.body.code).toBe('unsupported_media_type');
    expect(calls).toEqual([]);
  });

  it('does not let __proto__ reach anything', async () => {
    const { app, calls } = testApp();
    for (const text of [
      '{"user_id":"u1","amount":5,"__proto__":{"isAdmin":true}}',
      '{"user_id":"u1","amount":5,"constructor":{"prototype":{"isAdmin":true}}}',
      '{"user_id":"u1","amount":5,"metadata":{"__proto__":{"isAdmin":true}}}',
    ]) {
      await consume(app).set('content-type', 'application/json').send(text);
    }
    expect(({} as { isAdmin?: boolean }).isAdmin).toBeUndefined();
    for (const { args } of calls) {
      const { metadata = {} } = args[0] as { metadata?: { isAdmin?: boolean } };
      expect(metadata.isAdmin).toBeUndefined();
      expect(Object.getPrototypeOf(metadata)).toBe(Object.prototype);
    }
  });

  it('are not read of strangers', async () => {
    const { app } = testApp();
    const response = await request(app)
      .post('/api/credits/consume')
      .set('content-type', 'application/json')
      .send(`{"description":"${'x'.repeat(2_000_000)}"}`);
    expect(response.status).toBe(401);
  });
});

describe('POST /api/checkout-session', () => {
  it.each([
    ['quantity 0', { plan: 'pack_50', quantity: 0 }, 'quantity'],
    ['quantity -1', { plan: 'pack_50', quantity: -1 }, 'quantity'],
    ['quantity 1.5', { plan: 'pack_50', quantity: 1.5 }, 'quantity'],
    ['quantity 1e6', { plan: 'pack_50', quantity: 1e6 }, 'quantity'],
    ['quantity 101', { plan: 'pack_50', quantity: 101 }, 'quantity'],
    ['an own amount', { plan: 'pack_50', amount: 1 }, 'amount'],
    ['own credits', { plan: 'pack_50', credits: 99_999 }, 'credits'],
    ['another user', { plan: 'pack_50', user_id: 'u2' }, 'user_id'],
    ['another customer', { plan: 'pack_50', customer: 'cus_1' }, 'customer'],
    ['neither plan nor price', {}, 'plan'],
    ['plan and price', { plan: 'pack_50', price_id: 'price_1' }, 'plan'],
    ['a price that is none', { price_id: 'prod_1' }, 'price_id'],
    ['a plan with a path', { plan: '../pack_50' }, 'plan'],
    ['a return address that is no text', { plan: 'pack_50', success_url: 5 }, 'success_url'],
  ])('refuses %s', async (_name, body, field) => {
    const { app, calls } = testApp({ env: EMBEDDED_ENV });
    const response = await request(app).post('/api/checkout-session').set(user).send(body);
    expect(response.status).toBe(400);
    expect(response.body.errors.map(({ path }: { path: string }) => path)).toContain(field);
    expect(calls.some(({ name }) => name === 'createSession')).toBe(false);
  });

  it('hands over the nonce and a quantity of 1 by default', async () => {
    const { app, calls } = testApp({ env: EMBEDDED_ENV });
    await request(app)
      .post('/api/checkout-session')
      .set({ ...user, 'x-user-email': 'u1@example.com', 'idempotency-key': 'click-1' })
      .send({ price_id: 'price_1' })
      .expect(200);
    expect(calls.at(-1)?.args[0]).toMatchObject({
      userId: 'u1',
      email: 'u1@example.com',
      priceId: 'price_1',
      quantity: 1,
      idempotencyKey: 'click-1',
    });
  });
});

describe('queries and paths', () => {
  const list = (query: string) => {
    const { app, calls } = testApp({ env: EMBEDDED_ENV });
    return request(app)
      .get(`/api/credits/transactions${query}`)
      .set(user)
      .then((response) => ({ response, calls }));
  };

  it.each([
    ['limit=1&limit=2', 'query.limit'],
    ['limit[]=1', 'query.limit[]'],
    ['limit=-1', 'query.limit'],
    ['limit=0', 'query.limit'],
    ['limit=101', 'query.limit'],
    ['limit=1e9', 'query.limit'],
    ['limit=1e1', 'query.limit'],
    ['limit=', 'query.limit'],
    ['limit=%2010', 'query.limit'],
    ['user_id=u2', 'query.user_id'],
    ['user_id=u1&user_id=u2', 'query.user_id'],
    ['__proto__[x]=1', 'query.__proto__[x]'],
    ['type=everything', 'query.type'],
    ['type=usage&type=purchase', 'query.type'],
    ["type='%20or%201=1--", 'query.type'],
    ['type=eq.usage', 'query.type'],
    ['from=yesterday', 'query.from'],
    ['from=2026-13-01', 'query.from'],
    ['from=2026-11-21T10:00:00', 'query.from'],
    ['from=2026-11-22&to=2026-11-21', 'query.from'],
    ["cursor='%20or%201=1--", 'query.cursor'],
    ['cursor=a&cursor=b', 'query.cursor'],
  ])('refuses ?%s', async (query, path) => {
    const { response, calls } = await list(`?${query}`);
    expect(response.status).toBe(400);
    expect(response.body.errors[0].path).toBe(path);
    expect(calls.some(({ name }) => name === 'transactions')).toBe(false);
  });

  it('hands over filters, a day as its first instant', async () => {
    const { response, calls } = await list(
      '?limit=7&type=usage&from=2026-11-01&to=2026-11-21T10:00:00%2B02:00&cursor=abc',
    );
    expect(response.status).toBe(200);
    expect(calls.at(-1)?.args[0]).toEqual({
      userId: 'u1',
      limit: 7,
      type: 'usage',
      from: '2026-11-01T00:00:00.000Z',
      to: '2026-11-21T08:00:00.000Z',
      cursor: 'abc',
    });
  });

  it.each([
    ['/api/users/%E0%A4%A/credits', 400],
    ['/api/users/a%00b/credits', 400],
    ['/api/users/a%0Ab/credits', 400],
    [`/api/users/${'x'.repeat(256)}/credits`, 400],
    ['/api/users//credits', 404],
  ])('answers %s with %d', async (path, status) => {
    const { app, calls } = testApp();
    const response = await request(app).get(path).set(bearer(SERVICE_KEY));
    expect(response.status).toBe(status);
    expect(response.headers['content-type']).toContain('application/problem+json');
    expect(calls).toEqual([]);
  });

  it.each([
    ['no e-mail', {}],
    ['an e-mail with a line break', { email: 'u1@example.com\r\nBcc: x@y.test' }],
    ['two e-mails', { email: 'a@example.com,b@example.com' }],
    ['a foreign customer id', { email: 'a@example.com', stripe_customer_id: 'sub_1' }],
    ['a balance', { email: 'a@example.com', credits_balance: 1_000 }],
  ])('refuses to put a user with %s', async (_name, body) => {
    const { app, calls } = testApp();
    await request(app).put('/api/users/u1').set(bearer(SERVICE_KEY)).send(body).expect(400);
    expect(calls).toEqual([]);
  });
});
