import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from '@jest/globals';
import Stripe from 'stripe';
import { eventually, receiver } from './support/sandbox.ts';

const CLI = fileURLToPath(new URL('../../src/sandbox/cli.ts', import.meta.url));

function start(...options: string[]) {
  const child = spawn(process.execPath, ['--import', 'tsx', CLI, ...options]);
  const output = { text: '' };
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      output.text += chunk.toString();
    });
  }
  return { child, output };
}

it('prints how to use it, sends webhooks, and stops on Ctrl-C', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'sandbox-cli-'));
  const hook = await receiver();
  const { child, output } = start(
    '--port',
    '0',
    '--data-dir',
    dir,
    '--webhook-url',
    hook.url,
    '--webhook-secret',
    'whsec_mine_1234',
  );
  try {
    const found = await eventually(() => {
      const match =
        /new Stripe\('(sk_test_sandbox_\w+)', \{ host: '127\.0\.0\.1', port: (\d+)/.exec(
          output.text,
        );
      expect(match).not.toBeNull();
      return match as RegExpExecArray;
    });
    expect(output.text).toContain('whsec_mine_1234');
    const stripe = new Stripe(String(found[1]), {
      host: '127.0.0.1',
      port: Number(found[2]),
      protocol: 'http',
    });
    await stripe.customers.create({});
    await eventually(() => expect(hook.received).toHaveLength(1));
    const { body, signature } = hook.received[0] ?? { body: '', signature: '' };
    expect(stripe.webhooks.constructEvent(body, signature, 'whsec_mine_1234').type).toBe(
      'customer.created',
    );
    child.kill('SIGINT');
    const [code] = await once(child, 'exit');
    expect([code, output.text]).toEqual([0, expect.stringContaining('Stripe sandbox stopped.')]);
  } finally {
    child.kill('SIGKILL');
    rmSync(dir, { recursive: true, force: true });
  }
});

it('refuses wrong options and says why', async () => {
  const wrong: [string[], string][] = [
    [['--port', 'x'], '--port must be a number'],
    [['--webhook-secret', 'x'], 'needs --webhook-url'],
    [['--prot', '1'], "Unknown option '--prot'"],
  ];
  await Promise.all(
    wrong.map(async ([options, message]) => {
      const { child, output } = start(...options);
      const [code] = await once(child, 'close');
      expect([code, output.text]).toEqual([1, expect.stringContaining(message)]);
    }),
  );
});
