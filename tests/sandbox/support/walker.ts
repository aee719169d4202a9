import { createEngine } from '../../../src/sandbox/engine.ts';
import { seededBytes } from '../../../src/sandbox/ids.ts';
import { assertStripeShape } from './stripeSchema.ts';

export type Thing = { id: string; object: string; status?: string; [field: string]: unknown };

const SECRET = 'sk_test_sandbox_walk';
export const HOUR_MS = 3_600_000;

/** A sandbox without a socket, so that ten thousand actions take seconds. */
export function createWalker() {
  let now = Date.parse('2026-01-01T00:00:00Z');
  const defects: string[] = [];
  const engine = createEngine({
    bytes: seededBytes('walk'),
    now: () => now,
    origin: 'http://127.0.0.1:1',
    secretKey: SECRET,
    instance: { instance: 'walk', pid: 0, webhookSecret: 'whsec_walk' },
    delaySettleMs: 12 * HOUR_MS,
    retryScheduleMs: [],
    attemptTimeoutMs: 1_000,
    logger: { info() {}, warn() {}, error: (text, more) => defects.push(`${text} ${more}`) },
  });

  async function send(method: string, path: string, body: string, type: string) {
    const [plain = '', query = ''] = path.split('?');
    const answer = await engine.handle({
      method,
      path: plain,
      query,
      body,
      headers: { authorization: `Bearer ${SECRET}`, 'content-type': type },
    });
    if (answer.status >= 500) throw new Error(`${method} ${path}: ${answer.body} ${defects}`);
    return { status: answer.status, body: JSON.parse(answer.body) as Thing };
  }

  return {
    /** A call of Stripe's API; null when it was refused. Every answer has Stripe's shape. */
    async api(method: 'GET' | 'POST', path: string, form: Record<string, string | number> = {}) {
      const text = new URLSearchParams(
        Object.entries(form).map(([name, value]): [string, string] => [name, String(value)]),
      ).toString();
      const type = 'application/x-www-form-urlencoded';
      const { status, body } = await send(method, path, text, type);
      assertStripeShape(status, body);
      return status === 200 ? body : null;
    },
    async control(method: 'GET' | 'POST' | 'PUT', path: string, body: object = {}) {
      const { status, body: answer } = await send(
        method,
        `/_sandbox/${path}`,
        JSON.stringify(body),
        'application/json',
      );
      return status === 200 ? answer : null;
    },
    /** All objects of a list, newest first. */
    async all(path: string): Promise<Thing[]> {
      const found: Thing[] = [];
      for (let after = ''; ; ) {
        const start = path.includes('?') ? path : `${path}?`;
        const { body } = await send('GET', `${start}limit=100${after}`, '', 'text/plain');
        const { data, has_more } = body as unknown as { data: Thing[]; has_more: boolean };
        found.push(...data);
        if (!has_more) return found;
        after = `&starting_after=${data.at(-1)?.id}`;
      }
    },
    pass(ms: number) {
      now += ms;
    },
    defects,
    stop: engine.stop,
  };
}
export type Walker = ReturnType<typeof createWalker>;
