import { expect, it } from '@jest/globals';
import type { Database, Json, RpcArgs } from '../../src/core/ports.ts';
import { type ProcessDeps, processEvent } from '../../src/webhook/process.ts';

/**
 * The database's answer that a payment has moved cannot be timed from outside, so the port says it
 * here; that nothing is written then is proven in tests/sql/payments.test.ts.
 */
function processing(movedTimes: number) {
  const calls: string[] = [];
  let failure: RpcArgs = {};
  const rpc = async (name: string, args: RpcArgs): Promise<Json> => {
    calls.push(name);
    if (name === 'fail_webhook_event') {
      failure = args;
      return { outcome: 'failed' };
    }
    const moved = calls.filter((call) => call === 'apply_webhook_effects').length <= movedTimes;
    return { outcome: moved ? 'read_again' : 'ignored', reason: null, results: [], waiting: false };
  };
  const quiet = () => {};
  const deps = {
    db: { rpc } as unknown as Database,
    logger: { error: quiet, warn: quiet, info: quiet, debug: quiet },
    livemode: false,
    random: () => 0.5,
  } as unknown as ProcessDeps;
  const work = processEvent(deps, {
    event_id: 'evt_1',
    event_type: 'radar.unknown',
    object_id: null,
    order_key: null,
    fence: 1,
    attempt: 1,
    payload: {
      id: 'evt_1',
      object: 'event',
      type: 'radar.unknown',
      created: 1,
      livemode: false,
      data: { object: {} },
    },
  });
  return { work, calls, failure: () => failure };
}

it('an event whose payment moved is decided anew, under the same lease', async () => {
  const { work, calls } = processing(3);
  expect(await work).toBe('ignored');
  expect(calls).toEqual(Array(4).fill('apply_webhook_effects'));
});

it('after five readings it fails, to be tried later', async () => {
  const { work, calls, failure } = processing(99);
  expect(await work).toBe('failed');
  expect(calls).toEqual([...Array(5).fill('apply_webhook_effects'), 'fail_webhook_event']);
  expect(failure()).toMatchObject({
    p_error: expect.stringContaining('changed by others 5 times'),
  });
});
