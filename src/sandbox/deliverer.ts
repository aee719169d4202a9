import { createHmac } from 'node:crypto';
import { API_VERSION, type Context } from './context.ts';
import { type Attempt, cancelDelivery, type DeliveryView, recordAttempt } from './deliveries.ts';
import { createDueQueue } from './dueQueue.ts';
import { eventIn } from './events.ts';
import { isDown } from './faults.ts';
import { coreEvents, deliveries, webhookEndpoints } from './tables.ts';

/**
 * Over three days as Stripe's live mode, which does not publish its intervals; the first ones are
 * short enough to watch: 1 s, 5 s, 30 s, 2 min, 10 min, 1 h, 3 h, 6 h, 12 h, 24 h, 24 h.
 */
export const RETRY_SCHEDULE_MS: readonly number[] = [
  1_000, 5_000, 30_000, 120_000, 600_000, 3_600_000, 10_800_000, 21_600_000, 43_200_000, 86_400_000,
  86_400_000,
];
export const ATTEMPT_TIMEOUT_MS = 10_000;
/** Requests on their way at once, over all endpoints. */
const CONCURRENT_MAX = 32;
/**
 * A reorder fault stops waiting for company after this long. A machine under load lets a second pass
 * between two events of one story, and then nothing would be reordered, and nobody told.
 */
const REORDER_PATIENCE_MS = 2_000;
/** Of the endpoint's answer; only its status matters. */
const ANSWER_BYTES_MAX = 64 * 1024;
/** Longest sleep between two looks at what is due: a jump of the injected clock is seen by then. */
const LOOK_MAX_MS = 1_000;

const DOWN = 'The endpoint is down (a fault of the sandbox).';
const ANSWER_LOST = {
  status_code: null,
  error: 'The answer of the endpoint was lost (a fault of the sandbox).',
};

interface Deliverer {
  /** Of the next attempt, in the account's clock; null when none is planned. Milliseconds. */
  nextDueAt(): number | null;
  /** Attempts made since the start. */
  made(): number;
  /** Sends what is due at the account's now, and resolves when all of it has its answer. */
  settle(): Promise<void>;
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
  const queue = createDueQueue();
  const running = new Map<string, Promise<void>>();
  const ready = new Set<string>();
  const held: string[] = [];
  const closing = new AbortController();
  let heldTimer: NodeJS.Timeout | undefined;
  let timer: NodeJS.Timeout | undefined;
  let wakesAt = Number.POSITIVE_INFINITY;
  let made = 0;

  function plan(view: DeliveryView): void {
    queue.delete(view.id);
    if (closing.signal.aborted || view.status !== 'pending' || running.has(view.id)) return;
    if (view.next_attempt_at === null) hold(view);
    else queue.set(view.id, view.next_attempt_at);
  }

  /** Moves what is due to the ready ones, and sleeps until the next. */
  function look(): void {
    clearTimeout(timer);
    wakesAt = Number.POSITIVE_INFINITY;
    if (closing.signal.aborted) return;
    for (let next = queue.peek(); next && next.dueAtMs <= ctx.now(); next = queue.peek()) {
      queue.delete(next.id);
      ready.add(next.id);
    }
    pump();
    const next = queue.peek();
    if (!next) return;
    wakesAt = next.dueAtMs;
    timer = setTimeout(look, Math.min(Math.max(0, next.dueAtMs - ctx.now()), LOOK_MAX_MS));
  }

  function lookIfEarlier(): void {
    const next = queue.peek();
    if (next && (next.dueAtMs < wakesAt || next.dueAtMs <= ctx.now())) look();
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
      look();
    });
    running.set(id, work);
    return work;
  }

  async function send(id: string): Promise<void> {
    const delivery = ctx.store.get(deliveries, id)?.view;
    if (delivery?.status !== 'pending') return;
    const endpoint = ctx.store.get(webhookEndpoints, delivery.endpoint);
    const event = endpoint && payloadFor(ctx, delivery.event, endpoint.view.api_version);
    if (!event || endpoint?.view.status !== 'enabled') {
      ctx.store.transaction(() => cancelDelivery(ctx, id));
      return;
    }
    const first = delivery.tries === 0;
    const secret =
      first && delivery.fault?.wrong_secret ? `${endpoint.hidden.secret}0` : endpoint.hidden.secret;
    // Indented as Stripe sends it, so that a receiver that re-serialises the body is found out.
    const body = JSON.stringify(event, null, 2);
    if (isDown(ctx, { type: delivery.event_type, endpoint: endpoint.id })) {
      keep(delivery, { at: Date.now(), duration_ms: 0, status_code: null, error: DOWN, copy: 0 });
      return;
    }
    const copies = first ? (delivery.fault?.duplicate ?? 0) : 0;
    const lost = delivery.tries < (delivery.fault?.lose_answer ?? 0);
    await Promise.all(
      Array.from({ length: 1 + copies }, async (_, copy) => {
        const outcome = await post(endpoint.view.url, body, secret);
        if (closing.signal.aborted) return;
        keep(delivery, { ...(lost ? { ...outcome, ...ANSWER_LOST } : outcome), copy });
      }),
    );
  }

  function keep(delivery: DeliveryView, attempt: Attempt): void {
    made += 1;
    ctx.store.transaction(() => recordAttempt(ctx, delivery.id, attempt, deps.retryScheduleMs));
    deps.onAttempt(delivery, attempt);
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
    lookIfEarlier();
  });
  for (const { view } of [...ctx.store.walk(deliveries, 'oldest_first')]) plan(view);
  look();

  return {
    nextDueAt: () => queue.peek()?.dueAtMs ?? null,
    made: () => made,
    async settle() {
      look();
      while (!closing.signal.aborted && (running.size > 0 || ready.size > 0 || held.length > 0)) {
        if (running.size > 0) await Promise.race(running.values());
        else if (held.length > 0) await sendHeld();
        look();
      }
    },
    async stop() {
      closing.abort();
      clearTimeout(heldTimer);
      clearTimeout(timer);
      await Promise.allSettled(running.values());
    },
  };
}

/** What is sent: the event in the endpoint's version, or the notification of a thin one. */
function payloadFor(ctx: Context, event: string, version: string | null) {
  return eventIn(ctx, event, version) ?? ctx.store.get(coreEvents, event)?.view ?? null;
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
