import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import request from 'supertest';
import { routes } from '../../src/api/routes/index.ts';
import { ERRORS } from '../../src/core/errors.ts';
import { bearer, EMBEDDED_ENV, SERVICE_KEY, testApp } from './support/testApp.ts';

describe('headers', () => {
  it('are strict on every answer', async () => {
    const { app } = testApp();
    for (const path of ['/', '/api/pricing', '/api/docs', '/nowhere', '/api/credits']) {
      const { headers } = await request(app).get(path);
      const policy = String(headers['content-security-policy']);
      expect(policy).toContain("default-src 'self'");
      expect(policy).toContain("frame-ancestors 'none'");
      expect(policy).toContain("object-src 'none'");
      expect(policy).not.toContain('unsafe');
      expect(headers['x-content-type-options']).toBe('nosniff');
      expect(headers['x-frame-options']).toBe('DENY');
      expect(headers['x-powered-by']).toBeUndefined();
    }
  });

  it('let forms lead to Stripe and to the sandbox, and nowhere else', async () => {
    const { app } = testApp();
    const { headers } = await request(app).get('/');
    expect(headers['content-security-policy']).toContain(
      "form-action 'self' https://checkout.stripe.com https://billing.stripe.com",
    );
  });

  it('ask for https only where Purser is reached by https', async () => {
    const plain = await request(testApp().app).get('/');
    expect(plain.headers['strict-transport-security']).toBeUndefined();
    expect(plain.headers['content-security-policy']).not.toContain('upgrade-insecure');
    const secure = await request(
      testApp({ env: { PUBLIC_URL: 'https://credits.example.com' } }).app,
    ).get('/');
    expect(secure.headers['strict-transport-security']).toContain('max-age=31536000');
    expect(secure.headers['content-security-policy']).toContain('upgrade-insecure-requests');
  });

  it('keep answers about users out of every cache', async () => {
    const { app } = testApp();
    const { headers } = await request(app).get('/api/users/u1/credits').set(bearer(SERVICE_KEY));
    expect(headers['cache-control']).toBe('no-store');
    expect(headers.etag).toBeUndefined();
  });
});

describe('the mails of a local server', () => {
  it('are pages that draw themselves and reach nothing', async () => {
    const { app } = testApp({ env: EMBEDDED_ENV });
    const index = await request(app).get('/mail').expect(200);
    expect(index.text).toContain('href="/mail/7"');
    expect(index.text).toContain('href="/mail/samples/low_balance"');
    expect(index.headers['content-security-policy']).toContain("default-src 'self'");
    for (const path of ['/mail/7', '/mail/samples/low_balance']) {
      const mail = await request(app).get(path).expect(200);
      expect(mail.text).toBe('<p>Hello</p>');
      expect(mail.headers['content-security-policy']).toBe(
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'",
      );
      const text = await request(app).get(`${path}?as=text`).expect(200);
      expect(text.headers['content-type']).toContain('text/plain');
    }
  });

  it('are nobody’s to see where a part is real', async () => {
    const { app, calls } = testApp();
    for (const path of ['/mail', '/mail/7', '/mail/samples/low_balance']) {
      await request(app).get(path).expect(404);
    }
    expect(calls).toEqual([]);
  });
});

describe('other origins', () => {
  const ORIGIN = 'https://app.example.com';
  const ask = (origin: string, env = {}) =>
    request(testApp({ env }).app).get('/api/pricing').set('origin', origin);

  it('may not read answers by default', async () => {
    const { headers } = await ask(ORIGIN);
    expect(headers['access-control-allow-origin']).toBeUndefined();
  });

  it.each([
    [ORIGIN, true],
    ['https://evil.test', false],
    ['https://app.example.com.evil.test', false],
    ['https://evil.app.example.com', false],
    ['http://app.example.com', false],
    ['null', false],
  ])('%s: may read answers: %s', async (origin, may) => {
    const { headers } = await ask(origin, { PURSER_RETURN_ORIGINS: `${ORIGIN}/, https://b.test` });
    expect(headers['access-control-allow-origin']).toBe(may ? origin : undefined);
    expect(headers['access-control-allow-credentials']).toBeUndefined();
    expect(headers.vary).toContain('Origin');
  });

  it('get a preflight for the headers the API takes', async () => {
    const { app } = testApp({ env: { PURSER_RETURN_ORIGINS: ORIGIN } });
    const { headers } = await request(app)
      .options('/api/checkout-session')
      .set({
        origin: ORIGIN,
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'authorization,idempotency-key',
      })
      .expect(204);
    expect(headers['access-control-allow-headers']).toContain('idempotency-key');
    expect(headers['access-control-allow-headers']).not.toContain('x-user-id');
  });
});

describe('the reference', () => {
  it('shows every route on one page without scripts', async () => {
    const { app } = testApp();
    const response = await request(app).get('/api/docs').expect(200);
    expect(response.headers['content-type']).toContain('text/html');
    for (const { contract } of routes) {
      expect(response.text).toContain(`id="${contract.id}"`);
    }
    expect(response.text).not.toMatch(/<script|style=|onclick/);
    expect(response.text).not.toMatch(/\[object Object\]|undefined/);
    await request(app)
      .get('/api/docs/style.css')
      .expect(200)
      .expect('content-type', /text\/css/);
  });

  it('has a page for every problem', async () => {
    const { app } = testApp();
    const index = await request(app).get('/problems').expect(200);
    for (const [code, { title }] of Object.entries(ERRORS)) {
      const response = await request(app).get(`/problems/${code}`).expect(200);
      expect(response.text).toContain(title);
      expect(response.text).toContain('What to do');
      expect(index.text).toContain(`/problems/${code}`);
    }
    for (const code of ['toString', '__proto__', 'nothing', '%3Cscript%3E']) {
      const response = await request(app)
        .get(`/problems/${code}`)
        .set('accept', 'text/html')
        .expect(404);
      expect(response.text).toContain('There is no such page');
      expect(response.text).not.toContain('<script');
    }
  });
});

describe('web pages', () => {
  let dir: string;

  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), '.purser-web-'));
    mkdirSync(join(dir, 'assets'));
    mkdirSync(join(dir, 'api'));
    writeFileSync(join(dir, 'index.html'), '<!doctype html><title>Purser</title>');
    writeFileSync(join(dir, 'favicon.svg'), '<svg xmlns="http://www.w3.org/2000/svg"/>');
    writeFileSync(join(dir, 'assets', 'index-abc123.js'), 'export {}');
    writeFileSync(join(dir, 'assets', 'index-abc123.js.map'), '{}');
    writeFileSync(join(dir, '.env'), 'SECRET=1');
    writeFileSync(join(dir, 'api', 'pricing'), 'shadow');
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  it.each(['/', '/pricing', '/success?session_id=cs_test_1', '/account', '/claim'])(
    '%s is the web app, asked for anew each time',
    async (path) => {
      const { app } = testApp({ staticDir: dir });
      const response = await request(app).get(path).expect(200);
      expect(response.text).toContain('<title>Purser</title>');
      expect(response.headers['cache-control']).toBe('no-cache');
    },
  );

  it('keeps hashed assets for ever, and others not at all', async () => {
    const { app } = testApp({ staticDir: dir });
    const asset = await request(app).get('/assets/index-abc123.js').expect(200);
    expect(asset.headers['cache-control']).toBe('public, max-age=31536000, immutable');
    const icon = await request(app).get('/favicon.svg').expect(200);
    expect(icon.headers['cache-control']).toBe('no-cache');
  });

  it.each([
    '/assets/missing.js',
    '/assets/index-abc123.js.map',
    '/.env',
    '/..%2f..%2fetc/passwd',
    '/assets/..%2f.env',
    '/assets',
    '/nowhere',
  ])('%s is 404', async (path) => {
    const { app } = testApp({ staticDir: dir });
    await request(app).get(path).set('accept', 'text/html').expect(404);
  });

  it('never shadow the API', async () => {
    const { app } = testApp({ staticDir: dir });
    const response = await request(app).get('/api/pricing').expect(200);
    expect(response.body.mode).toBe('local');
  });

  it.each([undefined, '/nowhere/at/all'])(
    'say how to build them while %s has none',
    async (staticDir) => {
      const { app } = testApp(staticDir === undefined ? {} : { staticDir });
      const response = await request(app).get('/').expect(200);
      expect(response.text).toContain('npm run build');
      await request(app).get('/pricing').set('accept', 'text/html').expect(404);
    },
  );
});
