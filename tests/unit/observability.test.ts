import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { describe, expect, it } from '@jest/globals';
import { createLogger, type LoggerOptions } from '../../src/observability/logger.ts';
import { redact, redactText } from '../../src/observability/redact.ts';
import { requestContext } from '../../src/observability/requestContext.ts';

function capture(options: Partial<LoggerOptions> = {}) {
  let text = '';
  const stream = new Writable({
    write(chunk, _encoding, done) {
      text += chunk;
      done();
    },
  });
  const clock = { now: () => new Date('2026-11-21T10:00:00.000Z') };
  const logger = createLogger({ level: 'info', stream, clock, ...options });
  return { logger, text: () => text, lines: () => text.trimEnd().split('\n') };
}

describe('a log line', () => {
  it('is one JSON object', () => {
    const { logger, text } = capture();
    logger.info('Successfully processed session cs_1 for user u1', { credits: 50 });
    expect(text()).toBe(
      '{"time":"2026-11-21T10:00:00.000Z","level":"info","message":"Successfully processed session cs_1 for user u1","credits":50}\n',
    );
  });

  it('carries the id of the request it was written for', async () => {
    const { logger, lines } = capture();
    await Promise.all(
      ['request-1', 'request-2'].map((requestId) =>
        requestContext.run({ requestId }, async () => {
          await new Promise((resolve) => setImmediate(resolve));
          logger.info(requestId);
        }),
      ),
    );
    logger.info('outside');
    const parsed = lines().map((line) => JSON.parse(line));
    expect(parsed.map(({ message, request_id }) => [message, request_id])).toEqual([
      ['request-1', 'request-1'],
      ['request-2', 'request-2'],
      ['outside', undefined],
    ]);
  });

  it.each(['error', 'warn', 'info', 'debug'] as const)('is written from level %s up', (level) => {
    const { logger, lines } = capture({ level });
    for (const word of ['error', 'warn', 'info', 'debug'] as const) logger[word](word);
    const all = ['error', 'warn', 'info', 'debug'];
    expect(lines().map((line) => JSON.parse(line).level)).toEqual(
      all.slice(0, all.indexOf(level) + 1),
    );
  });

  const forged = 'u1\n{"level":"error","message":"forged"}\r\u001b[31m\u2028\u0085\u007f';
  it.each([false, true])('cannot be forged from within (for people: %s)', (pretty) => {
    const { logger, text } = capture({ pretty });
    logger.info(forged, { user_id: forged, [forged]: 1, error: new Error(forged) });
    const line = text().trimEnd();
    expect(line.split('\n').filter((part) => part.startsWith('{"level"'))).toEqual([]);
    // Colours of our own are all that may stand there for people.
    const plain = pretty ? line.replaceAll('\u001b[32m', '').replaceAll('\u001b[39m', '') : line;
    expect(plain.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\p{Zl}\p{Zp}]/u);
    if (!pretty) expect(JSON.parse(line).user_id).toBe(forged);
  });

  it('does not let a field stand in for level, time or message', () => {
    const { logger, lines } = capture();
    logger.info('real', { level: 'error', message: 'forged', time: 0 });
    expect(JSON.parse(lines()[0] ?? '')).toMatchObject({
      level: 'info',
      message: 'real',
      field_message: 'forged',
    });
  });

  it('holds errors with their code and causes', () => {
    const { logger, lines } = capture();
    const cause = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' });
    logger.error('Failed', { error: new Error('no database', { cause }) });
    expect(JSON.parse(lines()[0] ?? '').error).toMatchObject({
      name: 'Error',
      message: 'no database',
      cause: { message: 'connect ECONNREFUSED', code: 'ECONNREFUSED' },
    });
  });

  it('survives whatever it is given', () => {
    const { logger, lines } = capture();
    const circle: Record<string, unknown> = {};
    circle.self = circle;
    const error = new Error('loop');
    error.cause = error;
    logger.info('odd', {
      circle,
      error,
      big: 2n ** 70n,
      date: new Date(Number.NaN),
      nothing: undefined,
      call: () => 1,
      bytes: Buffer.from('secret'),
      map: new Map([['a', 1]]),
      list: Array.from({ length: 500 }, (_, index) => index),
      long: 'x'.repeat(100_000),
    });
    const line = lines()[0] ?? '';
    expect(line.length).toBeLessThan(40_000);
    expect(JSON.parse(line)).toMatchObject({ big: '1180591620717411303424', bytes: '[6 bytes]' });
  });
});

describe('redaction', () => {
  const SECRETS: [string, string, string][] = [
    ['a Stripe key', 'sk_live_51HabcDEF456', 'sk_live_[redacted]'],
    ['a restricted key', 'rk_test_51HabcDEF456', 'rk_test_[redacted]'],
    ['a signing secret', 'whsec_abcDEF456+/=', 'whsec_[redacted]'],
    ['a Supabase key', 'sb_secret_abcDEF456', 'sb_secret_[redacted]'],
    ['a key of ours', 'purser_admin_abc-DEF456', 'purser_admin_[redacted]'],
    ['a token', 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1MSJ9.c2ln', '[redacted token]'],
    ['a bearer', 'Bearer abcDEF456', 'Bearer [redacted]'],
    [
      'a database password',
      'postgresql://purser:p@ss:w0rd@db:5432/x',
      'postgresql://purser:[redacted]@db:5432/x',
    ],
    ['a Redis password', 'rediss://default:abcDEF456@h:6379', 'rediss://default:[redacted]@h:6379'],
    [
      'a Slack hook',
      'https://hooks.slack.com/services/T0/B0/abcDEF456',
      'https://hooks.slack.com/services/[redacted]',
    ],
    ['a Resend key', 're_AbCdEf12_AbCdEfGhIjKlMnOpQrStUvWx', 're_[redacted]'],
    ['an e-mail', 'anna.berg+x@mail.example.com', 'a***@mail.example.com'],
    ['a card', '4242 4242 4242 4242', '[card]'],
    ['a card in one piece', '5555555555554444', '[card]'],
    ['a card of 15 digits', '3782 822463 10005', '[card]'],
  ];
  it.each(SECRETS)('hides %s wherever it stands', (_name, secret, shown) => {
    expect(redactText(secret)).toBe(shown);
    const error = new Error(`inner ${secret}`);
    const text = JSON.stringify(redact({ a: [`before ${secret} after`, { b: secret }], error }));
    expect(text).not.toContain(secret);
    expect(text).toContain(`before ${shown} after`);
  });

  it.each([
    'authorization',
    'Authorization',
    'stripe-signature',
    'apikey',
    'api_key',
    'password',
    'SUPABASE_SERVICE_ROLE_KEY',
    'stripeSecretKey',
    'webhook_secret',
    'access_token',
    'cookie',
    'x-user-signature',
  ])('hides what is named %s', (name) => {
    expect(redact({ [name]: 'plain' })).toEqual({ [name]: '[redacted]' });
  });

  it.each([
    ['idempotency_key', 'consume:k'],
    ['lookup_key', 'pack_50'],
    ['session_id', 'cs_test_a1b2c3'],
    ['event_id', 'evt_1MqqbKLt4dXK03v5qaIbiNCC'],
    ['customer', 'cus_NffrFeUfNV2Hib'],
    ['url', 'https://credits.example.com/api/credits?limit=5'],
    ['time_ms', '1763719200000'],
    ['time_us', '1763719200000000'],
    ['number', '4242424242424241'],
    ['refund', 're_3NispeKvYlo2Cd31jOCgZabc'],
  ])('leaves %s = %s readable', (name, value) => {
    expect(redact({ [name]: value })).toEqual({ [name]: value });
  });

  it('takes of an error only what is known to be harmless', () => {
    const error = Object.assign(new Error('duplicate key'), {
      code: '23505',
      detail: 'Key (email)=(anna@example.com) already exists.',
      query: 'insert into users',
      parameters: ['anna@example.com'],
      headers: { authorization: 'x' },
      raw: { card: '4242424242424242' },
    });
    expect(Object.keys(redact(error) as object).sort()).toEqual([
      'code',
      'message',
      'name',
      'stack',
    ]);
  });
});

describe('a closed pipe', () => {
  it('does not end the process', async () => {
    const logger = join(import.meta.dirname, '../../src/observability/logger.ts');
    const script = `
      import { createLogger } from ${JSON.stringify(logger)};
      const logger = createLogger({ level: 'info' });
      logger.info('first');
      process.stdin.once('data', () => {
        for (let i = 0; i < 50; i += 1) logger.info('into the void ' + 'x'.repeat(1000));
        setTimeout(() => process.stderr.write('still here', () => process.exit(0)), 50);
      });
    `;
    const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script]);
    let errors = '';
    child.stderr.on('data', (chunk) => {
      errors += chunk;
    });
    await new Promise((resolve) => child.stdout.once('data', resolve));
    child.stdout.destroy();
    child.stdin.write('go');
    const code = await new Promise((resolve) => child.once('exit', resolve));
    expect({ code, errors }).toEqual({ code: 0, errors: expect.stringContaining('still here') });
  });
});
