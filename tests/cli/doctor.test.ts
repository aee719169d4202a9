import { readFileSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { SignJWT } from 'jose';
import { type Examined, examine } from '../../src/cli/doctor/examine.ts';
import { RULES } from '../../src/cli/doctor/rules/index.ts';
import { openSite, type SiteOptions } from '../../src/cli/doctor/site.ts';
import { SUBSCRIBED_TYPES } from '../../src/webhook/subscribedTypes.ts';
import { createTestDatabase, testDatabase } from '../support/postgres.ts';
import { type Stack, stackEnv, startStack, WEBHOOK_SECRET } from '../support/stack.ts';
import { runIt, widest } from './support/runIt.ts';

/** The real server on a real Postgres, with the sandbox in the place of Stripe's API. */
const database = testDatabase();
let stack: Stack;
const servers: Server[] = [];

beforeAll(async () => {
  stack = await startStack({
    connectionString: database.current.connectionString,
    adapter: 'pg',
    deliveries: true,
  });
});
afterAll(async () => {
  for (const server of servers) server.close();
  await stack.stop();
});

type Env = Record<string, string | undefined>;

const goodEnv = (): Env => ({
  ...stackEnv(database.current.connectionString, stack.sandbox),
  PUBLIC_URL: stack.url,
});

/** What one rule finds at a site with this environment. */
async function look(
  code: string,
  env: Env = {},
  options: Partial<SiteOptions> = {},
): Promise<Examined> {
  const rule = RULES.find((candidate) => candidate.code === code);
  if (rule === undefined) throw new Error(`no rule ${code}`);
  const site = openSite({ env: { ...goodEnv(), ...env }, ...options });
  try {
    return await examine(site, rule);
  } finally {
    await site.close();
  }
}

const text = ({ findings }: Examined) =>
  findings.map(({ detail, fix = '' }) => `${detail} ${fix}`).join('\n');

/** Something that stands where the webhook route should be. */
async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

describe('each rule holds where all is well, and says so', () => {
  it.each(RULES.map(({ code }) => [code]))('%s', async (code) => {
    // These two have nothing to look at: the database is direct, the mirror in the process.
    const expected = code === 'supabase-key' || code === 'redis' ? 'skipped' : 'ok';
    const found = await look(code);
    expect({ status: found.status, text: text(found) }).toMatchObject({ status: expected });
    expect(found.findings.every(({ fix }) => fix === undefined)).toBe(true);
  });

  it('supabase-key, of a service key', async () => {
    const found = await look('supabase-key', {
      SUPABASE_URL: 'https://abcdefghijklmnopqrst.supabase.co',
      SUPABASE_SECRET_KEY: 'sb_secret_0123456789abcdefghij',
    });
    expect(found).toMatchObject({ status: 'ok' });
  });

  it('prices, where a price outside the catalogue says what it credits', async () => {
    const price = await stack.stripe.prices.create({
      product_data: { name: 'by metadata' },
      currency: 'usd',
      unit_amount: 100,
      metadata: { credits: '10' },
    });
    expect(await look('prices')).toMatchObject({ status: 'ok' });
    await stack.stripe.prices.update(price.id, { active: false });
  });
});

describe('each rule names what is wrong and how to mend it', () => {
  it.each([
    ['quotes', { STRIPE_WEBHOOK_SECRET: '"whsec_1234567890"' }, /STRIPE_WEBHOOK_SECRET/],
    [
      'a placeholder',
      { DATABASE_URL: 'postgresql://u:[YOUR-PASSWORD]@host:5432/db' },
      /placeholder/,
    ],
    ['a key of another kind', { STRIPE_SECRET_KEY: 'pk_test_123' }, /publishable/],
  ])('settings: %s', async (_name, env, expected) => {
    const found = await look('settings', env);
    expect(found.status).toBe('fail');
    expect(text(found)).toMatch(expected);
  });

  it('settings: a newline around a secret, which works and is told', async () => {
    const found = await look('settings', { STRIPE_WEBHOOK_SECRET: `${WEBHOOK_SECRET}\n` });
    expect(found.status).toBe('warn');
    expect(text(found)).toContain('white space or a newline');
  });

  it('webhook-secret: none is set', async () => {
    const found = await look('webhook-secret', { STRIPE_WEBHOOK_SECRET: undefined });
    expect(found.status).toBe('fail');
    expect(text(found)).toContain('no payment could be credited');
  });

  it('webhook-secret: that of another endpoint, beside the right one, and nothing is written', async () => {
    const count = 'select count(*)::int as rows from public.stripe_webhook_events';
    const before = await database.current.query<{ rows: number }>(count);
    const found = await look('webhook-secret', {
      STRIPE_WEBHOOK_SECRET: `${WEBHOOK_SECRET},whsec_of_stripe_listen_0123`,
    });
    expect(found.findings.map(({ status }) => status)).toEqual(['ok', 'fail']);
    expect(found.findings[1]?.detail).toContain('Secret 2 of STRIPE_WEBHOOK_SECRET');
    expect(await database.current.query(count)).toEqual(before);
    expect(text(found)).not.toContain('whsec_of');
  });

  it('raw-body: a proxy parses the body and writes it anew', async () => {
    const proxy = await serve((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', async () => {
        const answer = await fetch(`${stack.url}${request.url}`, {
          method: 'POST',
          headers: {
            'content-type': 'application/json',
            'stripe-signature': String(request.headers['stripe-signature'] ?? ''),
          },
          body: JSON.stringify(JSON.parse(Buffer.concat(chunks).toString())),
        });
        response.writeHead(answer.status, { 'content-type': 'application/json' });
        response.end(await answer.text());
      });
    });
    const found = await look('raw-body', { PUBLIC_URL: proxy });
    expect(found.status).toBe('fail');
    expect(text(found)).toContain('pass the bytes on as they came');
    expect(await look('webhook-secret', { PUBLIC_URL: proxy })).toMatchObject({ status: 'ok' });
  });

  it('stripe-mode: a live key outside production', async () => {
    const found = await look('stripe-mode', {
      STRIPE_SECRET_KEY: 'sk_live_0123456789abcdef',
      STRIPE_API_BASE: undefined,
    });
    expect(found.status).toBe('fail');
    expect(text(found)).toContain('NODE_ENV is not production');
  });

  it('stripe-mode: the sandbox asked for with a live key', async () => {
    const found = await look('stripe-mode', {
      STRIPE_SECRET_KEY: 'sk_live_0123456789abcdef',
      PURSER_STRIPE: 'sandbox',
    });
    expect(found.status).toBe('fail');
  });

  it.each([
    [401, 'Invalid API Key provided: sk_test_****cdef', 'does not know STRIPE_SECRET_KEY'],
    [403, 'The provided key does not have the required permissions', 'may not read prices'],
  ])('stripe-mode: Stripe refuses the key with %i', async (status, message, told) => {
    const api = await serve((_request, response) => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ error: { type: 'invalid_request_error', message } }));
    });
    const found = await look('stripe-mode', { STRIPE_API_BASE: api });
    expect(found.status).toBe('fail');
    expect(found.findings[0]?.detail).toContain(told);
    expect(found.findings[0]?.detail).toContain(message);
  });

  it('stripe-mode: Stripe does not answer', async () => {
    const found = await look('stripe-mode', { STRIPE_API_BASE: 'http://127.0.0.1:9' });
    expect(found.status).toBe('fail');
    expect(found.findings[0]?.detail).toContain('Stripe does not answer');
    expect(found.findings[0]?.fix).toContain('status.stripe.com');
  });

  it('stripe-mode: a price of the catalogue that exists in the other mode only', async () => {
    // Stripe's own words; the sandbox has one mode.
    const api = await serve((request, response) => {
      if (request.url?.startsWith('/v1/prices?')) {
        response.writeHead(200, { 'content-type': 'application/json' });
        response.end(JSON.stringify({ object: 'list', data: [], has_more: false }));
        return;
      }
      response.writeHead(404, { 'content-type': 'application/json' });
      const message =
        "No such price: 'price_pack_50'; a similar object exists in live mode, but a test mode key was used to make this request.";
      response.end(
        JSON.stringify({
          error: { type: 'invalid_request_error', code: 'resource_missing', message },
        }),
      );
    });
    const found = await look('stripe-mode', { STRIPE_API_BASE: api });
    expect(found.status).toBe('fail');
    expect(found.findings[0]?.detail).toContain(
      'price_pack_50 of the catalogue is of the live mode',
    );
  });

  it('webhook-endpoint: nothing answers', async () => {
    const found = await look('webhook-endpoint', { PUBLIC_URL: 'http://127.0.0.1:9' });
    expect(found.status).toBe('fail');
    expect(text(found)).toContain('Nothing answers');
  });

  it.each([
    [308, { location: 'https://www.example.com/api/webhooks/stripe' }, 'follows no redirect'],
    [401, {}, 'Take the protection off'],
    [404, {}, 'is not Purser’s webhook route'],
    [503, {}, 'answers 503'],
  ])('webhook-endpoint: %i instead of the route', async (status, headers, expected) => {
    const url = await serve((_request, response) => {
      response.writeHead(status, headers as Record<string, string>);
      response.end('<html>no</html>');
    });
    const found = await look('webhook-endpoint', { PUBLIC_URL: url });
    expect(found.status).toBe('fail');
    expect(text(found)).toContain(expected);
  });

  it('webhook-endpoint: Stripe delivers elsewhere, and where is told', async () => {
    const { origin, port } = new URL(stack.url);
    const found = await look('webhook-endpoint', {
      PUBLIC_URL: origin.replace('127.0.0.1', 'localhost'),
    });
    expect(found.status).toBe('fail');
    expect(text(found)).toContain(`delivers to http://127.0.0.1:${port}/api/webhooks/stripe`);
  });

  it('webhook-endpoint: it is disabled in Stripe', async () => {
    const { data } = await stack.stripe.webhookEndpoints.list();
    const id = data[0]?.id ?? '';
    await stack.stripe.webhookEndpoints.update(id, { disabled: true });
    const found = await look('webhook-endpoint');
    await stack.stripe.webhookEndpoints.update(id, { disabled: false });
    expect(found.status).toBe('fail');
    expect(text(found)).toContain('is disabled in Stripe');
  });

  it('endpoint-events: event types are missing', async () => {
    const { data } = await stack.stripe.webhookEndpoints.list();
    const id = data[0]?.id ?? '';
    await stack.stripe.webhookEndpoints.update(id, {
      enabled_events: SUBSCRIBED_TYPES.filter((type) => !type.startsWith('invoice.')),
    });
    const found = await look('endpoint-events');
    await stack.stripe.webhookEndpoints.update(id, { enabled_events: ['*'] });
    expect(found.status).toBe('fail');
    expect(text(found)).toContain('invoice.paid');
  });

  it('endpoint-events: another API version', async () => {
    const url = `${stack.url}/api/webhooks/stripe`;
    await stack.sandbox.ensureWebhookEndpoint({
      url,
      apiVersion: '2024-06-20',
      secret: WEBHOOK_SECRET,
    });
    const found = await look('endpoint-events');
    expect(found.status).toBe('warn');
    expect(text(found)).toContain('2024-06-20');
  });

  it('prices: none for an entry, another amount, and one that credits nothing', async () => {
    const { stripe } = stack;
    await stripe.prices.update('price_pack_200', { lookup_key: '', active: false });
    const dearer = await stripe.prices.create({
      product: 'prod_pack_50',
      currency: 'usd',
      unit_amount: 600,
      lookup_key: 'pack_50',
      transfer_lookup_key: true,
    });
    const other = await stripe.prices.create({
      product_data: { name: 'a mug' },
      currency: 'usd',
      unit_amount: 1500,
    });
    const found = await look('prices');
    expect(found.status).toBe('fail');
    expect(text(found)).toContain('pack pack_200 has no active price');
    expect(text(found)).toContain('pack_50 costs 6.00 usd in Stripe and 5.00 usd in the catalogue');
    expect(text(found)).toContain(other.id);
    // As it was, for the tests below.
    await stripe.prices.update(other.id, { active: false });
    await stripe.prices.update(dearer.id, { active: false });
    await stripe.prices.update('price_pack_200', { lookup_key: 'pack_200', active: true });
    const was = { lookup_key: 'pack_50', transfer_lookup_key: true };
    await stripe.prices.update('price_pack_50', was);
  });

  it('prices: an archived product', async () => {
    await stack.stripe.products.update('prod_pack_500', { active: false });
    const found = await look('prices');
    await stack.stripe.products.update('prod_pack_500', { active: true });
    expect(text(found)).toContain('whose product is archived');
  });

  it('supabase-key: the anon key in its place', async () => {
    const anon = await new SignJWT({ role: 'anon' })
      .setProtectedHeader({ alg: 'HS256' })
      .setExpirationTime('1h')
      .sign(new TextEncoder().encode('secret-of-a-project-0123456789abcd'));
    const found = await look('supabase-key', {
      DATABASE_URL: undefined,
      SUPABASE_URL: 'https://abcdefghijklmnopqrst.supabase.co',
      SUPABASE_SECRET_KEY: anon,
    });
    expect(found.status).toBe('fail');
    expect(text(found)).toContain('anon key');
  });

  it('billing-portal: its settings were never saved', async () => {
    await stack.sandbox.setSettings({ portal_saved: false });
    const found = await look('billing-portal');
    await stack.sandbox.setSettings({ portal_saved: true });
    expect(found.status).toBe('fail');
    expect(text(found)).toContain('Customer portal');
  });

  it('redis: an address of the wrong kind', async () => {
    const found = await look('redis', {
      UPSTASH_REDIS_REST_URL: 'rediss://default:pw@eu1.upstash.io:6379',
      UPSTASH_REDIS_REST_TOKEN: 'token',
    });
    expect(found.status).toBe('fail');
    expect(text(found)).toContain('not the REST address');
  });

  it('redis: nobody answers there', async () => {
    const found = await look('redis', { REDIS_URL: 'redis://127.0.0.1:9' });
    expect(found.status).toBe('fail');
    expect(text(found)).toContain('Check REDIS_URL');
  });

  it('clock: this machine is two minutes ahead of the database and of Stripe', async () => {
    const found = await look('clock', {}, { nowMs: () => Date.now() + 120_000 });
    expect(found.findings.map(({ status }) => status)).toEqual(['fail', 'fail']);
    expect(text(found)).toMatch(/1(?:19|20|21) s ahead of that of the database/);
    expect(text(found)).toContain('Stripe');
  });

  it('runtime: an old Node', async () => {
    const found = await look('runtime', {}, { nodeVersion: '20.11.1' });
    expect(found.status).toBe('fail');
    expect(text(found)).toContain('needs 20.19');
  });
});

describe('of the database', () => {
  it('migrations: an empty one, and one that cannot be reached', async () => {
    const empty = await createTestDatabase({ template: 'template0' });
    try {
      const env = { DATABASE_URL: empty.connectionString };
      const found = await look('migrations', env);
      expect(found.status).toBe('fail');
      expect(text(found)).toContain('npm run migrate');
      expect(await look('row-security', env)).toMatchObject({ status: 'skipped' });
    } finally {
      await empty.drop();
    }
    const away = await look('migrations', { DATABASE_URL: 'postgresql://u:p@127.0.0.1:9/db' });
    expect(away.status).toBe('fail');
    expect(text(away)).not.toContain('u:p@');
  });

  it('migrations: a file was edited since it was applied', async () => {
    const edited = await createTestDatabase({});
    try {
      const env = { DATABASE_URL: edited.connectionString };
      await edited.query(
        `update purser.applied_files set checksum = 'edited' where file = 'payments_migration.sql'`,
      );
      const found = await look('migrations', env);
      expect(found.status).toBe('fail');
      expect(text(found)).toContain('payments_migration.sql');
    } finally {
      await edited.drop();
    }
  });

  it('row-security: RLS off, a policy for everybody, a function for anon', async () => {
    const open = await createTestDatabase({});
    try {
      await open.query(`
        alter table public.credit_transactions disable row level security;
        create policy everybody on public.payments for select using (true);
        grant execute on function public.adjust_credits to anon;
        alter table public.users disable row level security;
        grant select on public.users to anon;`);
      const found = await look('row-security', { DATABASE_URL: open.connectionString });
      expect(found.findings.map(({ status }) => status)).toEqual(['fail', 'fail', 'fail', 'warn']);
      expect(text(found)).toContain('off on credit_transactions');
      expect(text(found)).toContain('payments.everybody');
      expect(text(found)).toContain('may call adjust_credits');
      expect(text(found)).toContain('public.users has no row level security');
    } finally {
      await open.drop();
    }
  });

  it('users: a sign-up without a row, a user with two customers', async () => {
    const crowded = await createTestDatabase({});
    try {
      await crowded.query(`
        insert into auth.users (id, email) values (gen_random_uuid(), 'new@example.com');
        insert into public.users (id, email) values ('twice', 'twice@example.com');
        insert into public.stripe_customers (customer_id, user_id) values ('cus_1', 'twice'), ('cus_2', 'twice');`);
      const found = await look('users', { DATABASE_URL: crowded.connectionString });
      expect(found.status).toBe('warn');
      expect(text(found)).toContain('1 of 1 people');
      expect(text(found)).toContain('twice (2)');
    } finally {
      await crowded.drop();
    }
  });
});

it('is explained in docs/cli.md, rule by rule', () => {
  const docs = readFileSync(new URL('../../docs/cli.md', import.meta.url), 'utf8');
  expect(RULES).toHaveLength(15);
  for (const { code } of RULES) expect(docs).toContain(`| \`${code}\` |`);
});

describe('purser doctor', () => {
  it('prints 15 rules within 80 columns, with the fix under what fails, and ends with 1', async () => {
    const env = { ...goodEnv(), STRIPE_WEBHOOK_SECRET: 'whsec_of_another_one_0123' };
    const { code, out, err } = await runIt(['doctor'], env);
    expect(code).toBe(1);
    expect(err).toBe('');
    expect(widest(out)).toBeLessThanOrEqual(80);
    for (const rule of RULES) expect(out).toContain(rule.code);
    expect(out).toMatch(/fail {4,}webhook-secret/);
    expect(out).toMatch(/→ Set the same secret here/);
    expect(out).toMatch(/\d+ ok, 1 warning, 1 failed, 3 skipped$/);
    expect(out).not.toContain('whsec_of');
    expect(out).not.toContain('\u001b');
  });

  it('answers programs, without secrets', async () => {
    const { code, out } = await runIt(['doctor', '--json'], goodEnv());
    const answer = JSON.parse(out);
    expect(answer.rules).toHaveLength(15);
    expect(code).toBe(answer.fail > 0 ? 1 : 0);
    expect(out).not.toContain(stack.sandbox.secretKey);
  });

  it('says at an empty machine what it did not look at, and ends with 0', async () => {
    const { code, out } = await runIt(['doctor'], { PURSER_DATA_DIR: '/nonexistent/purser' });
    expect(code).toBe(0);
    expect(out.replace(/\s+/g, ' ')).toContain('no embedded database in /nonexistent/purser yet');
    expect(out).toContain('The built-in sandbox stands in for Stripe');
    expect(out).toMatch(/2 ok, 13 skipped$/);
  });
});
