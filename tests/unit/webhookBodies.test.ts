import { createHmac } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import Stripe from 'stripe';
import { PurserError } from '../../src/core/errors.ts';
import type { Json, RpcArgs } from '../../src/core/ports.ts';
import { storableText } from '../../src/core/storableJson.ts';
import { createWebhook, type WebhookDeps } from '../../src/webhook/webhook.ts';
import { randomOf } from '../support/random.ts';

/**
 * What the receiver makes of any bytes, without a network: 50,000 bodies in seconds. The database
 * is a port that remembers; that a real one keeps what it is given is shown in
 * tests/webhook/signatures.test.ts.
 */
const SECRETS = ['whsec_new', 'whsec_old'];
const NOW = 1_795_000_000;
const BODIES = 50_000;

function receiver() {
  const stored: RpcArgs[] = [];
  const quiet = () => {};
  const webhook = createWebhook({
    db: {
      rpc: async (_name: string, args: RpcArgs): Promise<Json> => {
        stored.push(args);
        return { outcome: 'received', leased: false };
      },
    },
    stripe: new Stripe('sk_test_of_the_tests'),
    secrets: SECRETS,
    toleranceSeconds: 300,
    clock: { now: () => new Date(NOW * 1000) },
    logger: { error: quiet, warn: quiet, info: quiet, debug: quiet },
    runAfterResponse: quiet,
  } as unknown as WebhookDeps);
  /** The status the caller gets; anything but a PurserError is a defect. */
  const status = async (body: Uint8Array, header: string | undefined): Promise<number> => {
    try {
      await webhook.receive(body, header);
      return 200;
    } catch (error) {
      if (error instanceof PurserError) return error.status;
      throw error;
    }
  };
  return { stored, status };
}

function mac(body: Uint8Array | string, secret = 'whsec_new', time: number | string = NOW): string {
  return createHmac('sha256', secret).update(`${time}.`).update(body).digest('hex');
}

function header(body: Uint8Array | string, secret?: string, time: number | string = NOW): string {
  return `t=${time},v1=${mac(body, secret, time)}`;
}

const EVENT = {
  id: 'evt_1',
  object: 'event',
  api_version: '2024-06-20',
  created: NOW,
  livemode: false,
  type: 'charge.refunded',
  pending_webhooks: 1,
  request: { id: null, idempotency_key: null },
  data: {
    object: {
      id: 'ch_1',
      object: 'charge',
      amount: 500,
      payment_intent: 'pi_1',
      metadata: { name: 'Zoë 😀', userId: 'u1' },
    },
    previous_attributes: { amount_refunded: 0 },
  },
};
const THIN = {
  id: 'evt_test_1',
  object: 'v2.core.event',
  type: 'v1.charge.refunded',
  created: '2026-11-01T00:00:00.000Z',
  livemode: false,
  related_object: { id: 'ch_1', type: 'charge', url: '/v1/charges/ch_1' },
};
const text = JSON.stringify(EVENT);
const bytes = Buffer.from(text);

describe('a signature', () => {
  const good = mac(text);
  const many = (count: number, last: string) =>
    [...Array.from({ length: count - 1 }, (_, n) => `v1=${mac(`other ${n}`)}`), last].join(',');
  it.each<[string, string, number]>([
    ['of the first secret', header(text), 200],
    ['of the secret that is being rotated out', header(text, 'whsec_old'), 200],
    ['of both secrets', `t=${NOW},v1=${mac(text, 'whsec_old')},v1=${good}`, 200],
    ['with an unknown scheme beside', `t=${NOW},v1=${good},v2=${good},v0=x`, 200],
    ['made 300 s ago', header(text, undefined, NOW - 300), 200],
    ['made 301 s ago', header(text, undefined, NOW - 301), 400],
    ['made 301 s in the future', header(text, undefined, NOW + 301), 400],
    ['of a foreign secret', header(text, 'whsec_other'), 400],
    ['of v0 alone', `t=${NOW},v0=${good}`, 400],
    ['without a time', `v1=${good}`, 400],
    ['with two times', `t=${NOW},t=${NOW},v1=${good}`, 400],
    ['whose time is no number', header(text, undefined, 'abc'), 400],
    ['whose time is NaN by its sign', header(text, undefined, `-${NOW}`), 400],
    ['whose time is a fraction', header(text, undefined, `${NOW}.5`), 400],
    ['whose time is hexadecimal', header(text, undefined, '0x6afd6dc0'), 400],
    ['whose time is longer than any', header(text, undefined, '9'.repeat(40)), 400],
    ['whose time was changed', `t=${NOW - 1},v1=${good}`, 400],
    ['cut short', `t=${NOW},v1=${good.slice(1)}`, 400],
    ['in capitals', `t=${NOW},v1=${good.toUpperCase()}`, 400],
    ['that is empty', '', 400],
    ['of nothing but commas', ',,,,', 400],
    ['that is binary noise', '\u0000\u0001\uFFFF=,t=,v1=', 400],
    ['among 200, the last', `t=${NOW},${many(200, `v1=${good}`)}`, 200],
    ['among 200, none', `t=${NOW},${many(200, 'v1=00')}`, 400],
  ])('%s', async (_what, given, expected) => {
    const { stored, status } = receiver();
    expect(await status(bytes, given)).toBe(expected);
    expect(stored).toHaveLength(expected === 200 ? 1 : 0);
  });

  it('missing is refused', async () => {
    expect(await receiver().status(bytes, undefined)).toBe(400);
  });

  it('is over the very bytes: the same JSON written otherwise is refused', async () => {
    const { stored, status } = receiver();
    const pretty = Buffer.from(JSON.stringify(EVENT, null, 2));
    expect(await status(pretty, header(text))).toBe(400);
    expect(await status(pretty, header(pretty))).toBe(200);
    expect(stored).toHaveLength(1);
  });

  it('does not depend on how old the event is', async () => {
    const old = Buffer.from(JSON.stringify({ ...EVENT, created: NOW - 80 * 86_400 }));
    expect(await receiver().status(old, header(old))).toBe(200);
  });
});

describe('signed bodies that are no events', () => {
  it.each<[string, string]>([
    ['empty', ''],
    ['null', 'null'],
    ['a list', '[]'],
    ['half of one', text.slice(0, text.length / 2)],
    ['an event without an id', JSON.stringify({ ...EVENT, id: '' })],
    ['an id with a NUL', JSON.stringify({ ...EVENT, id: 'evt_\u0000' })],
    ['an id of a lone surrogate', JSON.stringify({ ...EVENT, id: 'evt_\ud800' })],
    ['an id no index takes', JSON.stringify({ ...EVENT, id: 'e'.repeat(3_000) })],
    [
      'an object id no index takes',
      JSON.stringify({ ...EVENT, data: { object: { id: 'e'.repeat(3_000) } } }),
    ],
    ['a time no calendar has', JSON.stringify({ ...EVENT, created: 1e300 })],
    ['a time before all', JSON.stringify({ ...EVENT, created: -1e12 })],
    ['a notification of the year 0', JSON.stringify({ ...THIN, created: '0000-01-01T00:00:00Z' })],
    ['JSON nested without end', text.replace('500', '['.repeat(100_000) + ']'.repeat(100_000))],
  ])('are refused: %s', async (_what, body) => {
    const { stored, status } = receiver();
    expect(await status(Buffer.from(body), header(body))).toBe(400);
    expect(stored).toEqual([]);
  });
});

describe(`${BODIES} mutated bodies`, () => {
  const half = BODIES / 2;

  it('changed after they were signed are refused, all of them, and nothing is stored', async () => {
    const { stored, status } = receiver();
    const random = randomOf(1);
    const signature = header(text);
    let refused = 0;
    for (let n = 0; n < half; n += 1) {
      const body = mutatedBytes(bytes, random);
      if (body.equals(bytes)) continue;
      expect(await status(body, signature)).toBe(400);
      refused += 1;
    }
    expect(refused).toBeGreaterThan(half * 0.99);
    expect(stored).toEqual([]);
  });

  it('changed before they were signed are refused or kept in a form every database takes', async () => {
    const { stored, status } = receiver();
    const random = randomOf(2);
    const answers = new Set<number>();
    for (let n = 0; n < half; n += 1) {
      const body =
        random() < 0.5
          ? Buffer.from(JSON.stringify(mutatedJson(random() < 0.5 ? EVENT : THIN, random)))
          : mutatedBytes(bytes, random);
      answers.add(await status(body, header(body)));
    }
    expect([...answers].sort()).toEqual([200, 400]);
    expect(stored.length).toBeGreaterThan(half / 10);
    for (const args of stored) expect(unstorable(args)).toEqual([]);
  });
});

/** Arguments that Postgres would refuse as text, timestamptz or jsonb. */
function unstorable(args: RpcArgs): string[] {
  const texts = ['p_event_id', 'p_event_type', 'p_object_id', 'p_order_key'] as const;
  return [
    ...texts.filter((name) => {
      const value = args[name];
      return (
        value !== null &&
        (typeof value !== 'string' || value.length > 255 || storableText(value) !== value)
      );
    }),
    ...(/^\d{4}-/.test(String(args.p_event_created_at)) ? [] : ['p_event_created_at']),
    ...(/\\u0000|\\ud[89a-f]/i.test(JSON.stringify(args.p_payload)) ? ['p_payload'] : []),
  ];
}

const STRANGE: unknown[] = [
  null,
  true,
  -1,
  0.5,
  1e308,
  '',
  'x'.repeat(1_000),
  '\u0000',
  '\ud800',
  '😀',
  [],
  {},
  [[[]]],
  { id: 'ch_2' },
  { __proto__: null, constructor: 1 },
  JSON.parse('{"__proto__": {"id": "ch_3"}}'),
];

function mutatedJson(value: unknown, random: () => number): unknown {
  if (random() < 0.08) return STRANGE[Math.floor(random() * STRANGE.length)];
  if (Array.isArray(value)) return value.map((item) => mutatedJson(item, random));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(() => random() > 0.02)
      .map(([key, member]) => [key, mutatedJson(member, random)]),
  );
}

function mutatedBytes(source: Buffer, random: () => number): Buffer {
  const at = Math.floor(random() * source.length);
  const length = 1 + Math.floor(random() * 8);
  const noise = Buffer.from(Array.from({ length }, () => Math.floor(random() * 256)));
  const kind = Math.floor(random() * 4);
  const [before, after] = [source.subarray(0, at), source.subarray(at)];
  if (kind === 0) return Buffer.concat([before, noise, after]);
  if (kind === 1) return Buffer.concat([before, noise, after.subarray(length)]);
  if (kind === 2) return Buffer.concat([before, after.subarray(length)]);
  return Buffer.concat([before, after.subarray(0, length), after]);
}
