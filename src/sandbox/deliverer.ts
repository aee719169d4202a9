import { createHmac } from 'node:crypto';
import { API_VERSION, type Context } from './context.ts';
import { type Attempt, cancelDelivery, type DeliveryView, recordAttempt } from './deliveries.ts';
import { deliveries, events, webhookEndpoints } from './tables.ts';

/** 1 s, 5 s, 30 s, 2 min, 10 min, 1 h, 6 h: short enough to watch, long enough to outlast a lunch. */
export const RETRY_SCHEDULE_MS: readonly number[] = [
  1_000, 5_000, 30_000, 120_000, 600_000, 3_600_000, 21_600_000,
];
export const ATTEMPT_TIMEOUT_MS = 10_000;
/** Requests on their way at once, over all endpoints. */
const CONCURRENT_MAX = 32;
/** A reorder fault stops waiting for company after this long. */
const REORDER_PATIENCE_MS = 250;
/** Of the endpoint's answer; only its status matters. */
const ANSWER_BYTES_MAX = 64 * 1024;
/** setTimeout's limit; a longer wait is slept in parts. */
const TIMER_MAX_MS = 2 ** 31 - 1;

interface Deliverer {
  /** Sends nothing more and waits for what is on its way; what got no answer stays pending. */
  stop(): Promise<void>;
}

/** Sends what the store says is pending, also what a killed process left. */
export function createDeliverer(deps: {
  ctx: Context;
  retryScheduleMs: readonly number[];
  attemptTimeoutMs: number;
  onAttempt: (delivery: DeliveryView, attempt: Attempt) => void;
}): Deliverer {
  const { ctx } = deps;
  const timers = new Map<string, NodeJS.Timeout>();
  const running = new Map<string, Promise<void>>();
  const ready = new Set<string>();
  const held: string[] = [];
  const closing = new AbortController();
  let heldTimer: NodeJS.Timeout | undefined;

  function plan(view: DeliveryView): void {
    clearTimeout(timers.get(view.id));
    timers.delete(view.id);
    if (closing.signal.aborted || view.status !== 'pending' || running.has(view.id)) return;
    if (view.next_attempt_at === null) {
      hold(view);
      return;
    }
    const wait = view.next_attempt_at - Date.now();
    if (wait <= 0) {
      enqueue(view.id);
      return;
    }
    timers.set(
      view.id,
      setTimeout(
        () => {
          const current = ctx.store.get(deliveries, view.id)?.view;
          if (current) plan(current);
        },
        Math.min(wait, TIMER_MAX_MS),
      ),
    );
  }

  function hold(view: DeliveryView): void {
    if (!held.includes(view.id)) held.push(view.id);
    clearTimeout(heldTimer);
    if (held.length >= (view.fault?.reorder ?? 1)) void sendHeld();
    else heldTimer = setTimeout(() => void sendHeld(), REORDER_PATIENCE_MS);
  }

  // One after the other: sent together they could arrive in their old order by chance.
  async function sendHeld(): Promise<void> {
    for (const id of held.splice(0).reverse()) await start(id);
  }

  function enqueue(id: string): void {
    ready.add(id);
    pump();
  }

  function pump(): void {
    for (const id of ready) {
      if (running.size >= CONCURRENT_MAX || closing.signal.aborted) return;
      ready.delete(id);
      void start(id);
    }
  }

  function start(id: string): Promise<void> {
    const present = running.get(id);
    if (present || closing.signal.aborted) return present ?? Promise.resolve();
    const work = send(id).finally(() => {
      running.delete(id);
      const current = ctx.store.get(deliveries, id)?.view;
      if (current && current.next_attempt_at !== null) plan(current);
      pump();
    });
    running.set(id, work);
    return work;
  }

  async function send(id: string): Promise<void> {
    const delivery = ctx.store.get(deliveries, id)?.view;
    if (delivery?.status !== 'pending') return;
    const endpoint = ctx.store.get(webhookEndpoints, delivery.endpoint);
    const event = ctx.store.get(events, delivery.event)?.view;
    if (!event || endpoint?.view.status !== 'enabled') {
      ctx.store.transaction(() => cancelDelivery(ctx, id));
      return;
    }
    const first = delivery.tries === 0;
    const secret =
      first && delivery.fault?.wrong_secret ? `${endpoint.hidden.secret}0` : endpoint.hidden.secret;
    // Indented as Stripe sends it, so that a receiver that re-serialises the body is found out.
    const body = JSON.stringify(event, null, 2);
    const copies = first ? (delivery.fault?.duplicate ?? 0) : 0;
    await Promise.all(
      Array.from({ length: 1 + copies }, async (_, copy) => {
        const attempt = { ...(await post(endpoint.view.url, body, secret)), copy };
        if (closing.signal.aborted) return;
        ctx.store.transaction(() => recordAttempt(ctx, id, attempt, deps.retryScheduleMs));
        deps.onAttempt(delivery, attempt);
      }),
    );
  }

  async function post(url: string, body: string, secret: string): Promise<Omit<Attempt, 'copy'>> {
    const at = Date.now();
    try {
      const response = await fetch(url, {
        method: 'POST',
        body,
        headers: {
          'content-type': 'application/json; charset=utf-8',
          'stripe-signature': signature(body, secret, Math.floor(at / 1_000)),
          'user-agent': `Stripe-Sandbox/${API_VERSION}`,
        },
        redirect: 'manual',
        signal: AbortSignal.any([closing.signal, AbortSignal.timeout(deps.attemptTimeoutMs)]),
      });
      await drain(response);
      return {
        at,
        duration_ms: Date.now() - at,
        status_code: response.status,
        error: response.ok ? null : `The endpoint answered ${response.status}; only 2xx counts.`,
      };
    } catch (error) {
      return { at, duration_ms: Date.now() - at, status_code: null, error: reason(error) };
    }
  }

  ctx.store.onCommit((changes) => {
    for (const change of changes) {
      if (change[0] === 'put' && change[1] === deliveries.name)
        plan(change[2].view as DeliveryView);
    }
  });
  for (const { view } of [...ctx.store.walk(deliveries, 'oldest_first')]) plan(view);

  return {
    async stop() {
      closing.abort();
      clearTimeout(heldTimer);
      for (const timer of timers.values()) clearTimeout(timer);
      timers.clear();
      await Promise.allSettled(running.values());
    },
  };
}

/** The header Stripe sends; `timestamp` in seconds, fresh for every attempt. */
function signature(body: string, secret: string, timestamp: number): string {
  const digest = createHmac('sha256', secret).update(`${timestamp}.${body}`).digest('hex');
  return `t=${timestamp},v1=${digest}`;
}

/** Reads the answer so that the connection can be used again, but never much of it. */
async function drain(response: Response): Promise<void> {
  if (!response.body) return;
  let bytes = 0;
  for await (const chunk of response.body) {
    bytes += (chunk as Uint8Array).length;
    if (bytes > ANSWER_BYTES_MAX) return;
  }
}

// By shape, not by class: an error of another realm (a test runner's) is no instance of our Error.
function reason(error: unknown): string {
  const { name, message, cause } = error as Partial<Error>;
  if (name === 'TimeoutError') return 'No answer in time.';
  return (cause as Partial<Error> | undefined)?.message ?? message ?? String(error);
}
