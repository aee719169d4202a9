import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { testDatabase } from '../support/postgres.ts';
import { type Stack, startStack } from '../support/stack.ts';

const database = testDatabase();
const SECRETS = {
  fresh: 'whsec_fresh_of_the_tests_0123456789',
  old: 'whsec_old_of_the_tests_0123456789',
};
let stack: Stack;
beforeAll(async () => {
  stack = await startStack({
    connectionString: database.current.connectionString,
    env: { STRIPE_WEBHOOK_SECRET: `${SECRETS.fresh}, ${SECRETS.old}` },
  });
});
afterAll(() => stack.stop());

let count = 0;
function event(fields: Record<string, unknown> = {}) {
  count += 1;
  return {
    id: `evt_signed_${count}`,
    object: 'event',
    type: 'radar.early_fraud_warning.created',
    created: 1_700_000_000,
    livemode: false,
    data: { object: { id: 'issfr_1' } },
    ...fields,
  };
}

async function rows(): Promise<number> {
  const [row] = await database.current.query<{ n: number }>(
    'select count(*)::int as n from stripe_webhook_events',
  );
  return row?.n ?? -1;
}

it('takes both secrets of a rotation', async () => {
  const before = await rows();
  for (const secret of Object.values(SECRETS)) {
    expect((await stack.deliver(event(), { secret })).status).toBe(200);
  }
  expect(await rows()).toBe(before + 2);
});

it('refuses other secrets, stale and future signatures, and stores nothing of them', async () => {
  const before = await rows();
  const now = Math.floor(Date.now() / 1000);
  const { fresh: secret } = SECRETS;
  for (const signing of [
    { secret: 'whsec_of_somebody_else_0123456789' },
    { secret, timestamp: now - 400 },
    { secret, timestamp: now + 400 },
  ]) {
    const { status, body } = await stack.deliver(event(), signing);
    expect([status, body.code]).toEqual([400, 'invalid_signature']);
  }
  const unsigned = await stack.call('POST', '/api/webhooks/stripe', { body: event() });
  expect([unsigned.status, unsigned.body.code]).toEqual([400, 'invalid_signature']);
  expect(await rows()).toBe(before);
});

it.each<[string, Record<string, unknown>, number]>([
  [
    'NUL and lone surrogates in metadata',
    { data: { object: { id: 'x', m: '\u0000\ud800' } } },
    200,
  ],
  ['keys no object should have', { data: { object: JSON.parse('{"__proto__": {"a": 1}}') } }, 200],
  ['numbers beyond all', { amount: 1e308, other: -0, data: { object: { id: 'x' } } }, 200],
  ['an object without an id', { type: 'charge.refunded', data: { object: { id: null } } }, 200],
  ['the last second of the calendar', { created: 253_402_300_799 }, 200],
  ['ids of 255 letters', { data: { object: { id: 'é'.repeat(255) } } }, 200],
  ['an id with a NUL', { id: 'evt_\u0000' }, 400],
  ['a time beyond the calendar', { created: 1e15 }, 400],
  ['no object', { data: {} }, 400],
])('answers a signed event with %s', async (_what, fields, expected) => {
  const sent = event(fields);
  const before = await rows();
  const { status } = await stack.deliver(sent, { secret: SECRETS.fresh });
  expect(status).toBe(expected);
  expect(await rows()).toBe(before + (expected === 200 ? 1 : 0));
});
