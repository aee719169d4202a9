import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeAll, expect } from '@jest/globals';
import Stripe from 'stripe';
import { type Sandbox, type SandboxOptions, startSandbox } from '../../../src/sandbox/index.ts';
import { assertStripeShape, warmUp } from './stripeSchema.ts';

/** Long, for a loaded machine: it only decides how long a broken test keeps one waiting. */
const SETTLE_WITHIN_MS = 60_000;

const running: { stop(): Promise<unknown> | unknown }[] = [];
const watched: TestSandbox[] = [];

/** Enough of a raw answer to look into. */
export interface Answer {
  readonly id?: string;
  readonly name?: string;
  readonly error?: { type: string; code?: string; param?: string; message: string };
  readonly data?: { id: string }[];
}

/** What was wrong with answers and deliveries; the SDK would hide an exception of the hook. */
const problems: string[] = [];

function checkShape(status: number, body: unknown): void {
  try {
    assertStripeShape(status, body);
  } catch (error) {
    problems.push((error as Error).message);
  }
}

export interface TestSandbox extends Sandbox {
  readonly stripe: Stripe;
  /** A raw call; the answer's shape is checked like the SDK's. */
  call(
    method: string,
    path: string,
    form?: Record<string, string>,
    headers?: Record<string, string>,
  ): Promise<{ status: number; headers: Headers; body: Answer }>;
}

/** Everything a test makes the sandbox answer or tell is compared with Stripe's schema. */
export async function testSandbox(options: SandboxOptions = {}): Promise<TestSandbox> {
  const sandbox = await startSandbox({ seed: 'test', retryScheduleMs: [20, 40, 80], ...options });
  running.push(sandbox);
  const test = Object.assign(sandbox, {
    stripe: stripeFor(sandbox),
    async call(
      method: string,
      path: string,
      form: Record<string, string> = {},
      headers: Record<string, string> = {},
    ) {
      const text = new URLSearchParams(form).toString();
      const query = method === 'GET' && text ? `?${text}` : '';
      const response = await checkedFetch(`${sandbox.origin}${path}${query}`, {
        method,
        headers: { authorization: `Bearer ${sandbox.secretKey}`, ...headers },
        ...(method === 'GET' ? {} : { body: new URLSearchParams(form) }),
      });
      return {
        status: response.status,
        headers: response.headers,
        body: (await response.json()) as Answer,
      };
    },
  });
  watched.push(test);
  return test;
}

/** For one that a test has stopped itself: its events cannot be read any more. */
export function unwatch(sandbox: TestSandbox): void {
  const at = watched.indexOf(sandbox);
  if (at !== -1) watched.splice(at, 1);
}

/** Stopped after the test, whatever happens; stopping twice does no harm. */
export function track<T extends { stop(): Promise<unknown> | unknown }>(thing: T): T {
  running.push(thing);
  return thing;
}

export function stripeFor({
  secretKey,
  host,
  port,
}: Pick<Sandbox, 'secretKey' | 'host' | 'port'>): Stripe {
  return new Stripe(secretKey, {
    host,
    port,
    protocol: 'http',
    maxNetworkRetries: 0,
    httpClient: Stripe.createFetchHttpClient(checkedFetch),
  });
}

const checkedFetch: typeof fetch = async (input, init) => {
  // No pooled connection: it could lead to a sandbox that was stopped before on the same port.
  const headers = new Headers(init?.headers);
  headers.set('connection', 'close');
  const response = await fetch(input, { ...init, headers });
  const body: unknown = await response.clone().json();
  if (!String(response.headers.get('request-id')).startsWith('req_')) {
    problems.push(`No request-id on ${String(input)}`);
  }
  checkShape(response.status, body);
  return response;
};

beforeAll(() => warmUp(), 60_000);

/** Also what nobody read: each event of each sandbox, fetched and checked by the same hook. */
afterEach(async () => {
  try {
    for (const { stripe } of watched.splice(0)) {
      for await (const event of stripe.events.list({ limit: 100 }))
        expect(event.object).toBe('event');
    }
  } finally {
    for (const thing of running.splice(0).reverse()) await thing.stop();
    expect(problems.splice(0)).toEqual([]);
  }
});

export interface Received {
  readonly body: string;
  readonly signature: string;
  readonly at: number;
  readonly event: Stripe.Event;
}

export interface Receiver {
  readonly url: string;
  readonly received: Received[];
  types(): string[];
  /** What the endpoint does; the default answers 200 at once. */
  answer: (count: number, event: Stripe.Event) => number | Promise<number>;
}

/** A webhook endpoint. It records everything, also what it refuses. */
export async function receiver(): Promise<Receiver> {
  const state: Receiver = {
    url: '',
    received: [],
    types: () => state.received.map(({ event }) => event.type),
    answer: () => 200,
  };
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    const event = JSON.parse(body) as Stripe.Event;
    checkShape(200, event);
    state.received.push({
      body,
      event,
      at: Date.now(),
      signature: String(request.headers['stripe-signature']),
    });
    const status = await state.answer(state.received.length, event);
    response.writeHead(status, { location: 'http://127.0.0.1:9/' }).end('ok');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  running.push({ stop: () => stopServer(server) });
  return Object.assign(state, {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`,
  });
}

/** A URL where nothing listens. */
export async function refusingUrl(): Promise<string> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await stopServer(server);
  return `http://127.0.0.1:${port}/refused`;
}

function stopServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}

/** Polls until the claim holds; fails with its last error. */
export async function eventually<T>(claim: () => T | Promise<T>): Promise<T> {
  const end = Date.now() + SETTLE_WITHIN_MS;
  for (;;) {
    try {
      return await claim();
    } catch (error) {
      if (Date.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}

/** The packs most tests sell. */
export const catalogue = {
  products: [
    { id: 'prod_pack_50', name: '50 credits' },
    { id: 'prod_plan', name: 'Individual' },
  ],
  prices: [
    {
      id: 'price_pack_50',
      product: 'prod_pack_50',
      currency: 'usd',
      unit_amount: 500,
      lookup_key: 'pack_50',
    },
    { id: 'price_free', product: 'prod_pack_50', currency: 'usd', unit_amount: 0 },
    {
      id: 'price_plan',
      product: 'prod_plan',
      currency: 'usd',
      unit_amount: 999,
      recurring: { interval: 'month' as const },
    },
  ],
};

export const returnTo = {
  success_url: 'http://127.0.0.1:3000/ok?session_id={CHECKOUT_SESSION_ID}',
  cancel_url: 'http://127.0.0.1:3000/pricing',
};

/** An open session for packs. */
export async function openSession(
  sandbox: TestSandbox,
  more: Partial<Stripe.Checkout.SessionCreateParams> = {},
): Promise<Stripe.Checkout.Session> {
  await sandbox.seedCatalogue(catalogue);
  return sandbox.stripe.checkout.sessions.create({
    mode: 'payment',
    line_items: [{ price: 'price_pack_50', quantity: 1 }],
    ...returnTo,
    ...more,
  });
}
