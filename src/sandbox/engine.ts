import { createAdvancer } from './advance.ts';
import { createApi } from './api.ts';
import { billingTasks } from './billing/renew.ts';
import { checkoutTasks } from './checkout.ts';
import { createClock } from './clock.ts';
import type { Context } from './context.ts';
import { runControl } from './control.ts';
import { runClock } from './controlClock.ts';
import type { Instance } from './controlRoute.ts';
import { createDeliverer } from './deliverer.ts';
import { ApiError, badRequest } from './errors.ts';
import { type ByteSource, randomText } from './ids.ts';
import type { Journal } from './journal.ts';
import { openDisputeTasks } from './openDispute.ts';
import { dashboard, dashboardAction } from './pages/dashboard.ts';
import { servePage } from './pages/pages.ts';
import { checkoutUrl } from './resources/checkoutView.ts';
import { disputeTasks } from './resources/disputes.ts';
import { refundTasks } from './resources/refunds.ts';
import type { Answer, Request } from './server.ts';
import { createStore } from './store.ts';
import { sessions } from './tables.ts';
import { createTaskRunner, type TaskHandlers } from './tasks.ts';

const taskHandlers: TaskHandlers = {
  ...checkoutTasks,
  ...billingTasks,
  ...refundTasks,
  ...openDisputeTasks,
  ...disputeTasks,
};

/** What a winston or pino logger offers. */
export interface Logger {
  info(message: string, details?: object): void;
  warn(message: string, details?: object): void;
  error(message: string, details?: object): void;
}

interface EngineOptions {
  readonly journal?: Journal | undefined;
  readonly bytes: ByteSource;
  readonly now: () => number;
  readonly origin: string;
  readonly secretKey: string;
  readonly instance: Instance;
  readonly delaySettleMs: number;
  readonly retryScheduleMs: readonly number[];
  readonly attemptTimeoutMs: number;
  readonly logger: Logger;
}

interface ControlRequest {
  readonly method: string;
  readonly path: string;
  readonly query: string;
  readonly body: unknown;
}

interface Engine {
  handle(request: Request): Answer | Promise<Answer>;
  stop(): Promise<void>;
}

/** The sandbox without its socket: state, clockwork, deliveries, and an answer to each request. */
export function createEngine(options: EngineOptions): Engine {
  const { logger } = options;
  const store = createStore(options.journal);
  store.compact();
  const clock = createClock(store, options.now);
  const ctx: Context = {
    store,
    now: clock.now,
    origin: () => options.origin,
    settleDelayMs: options.delaySettleMs,
    request: null,
    newId: (prefix, length = 24) => prefix + randomText(options.bytes, length),
  };
  const onDefect = (error: unknown) =>
    logger.error('sandbox defect', {
      error: (error as Partial<Error> | null)?.stack ?? String(error),
    });
  const api = createApi({ ctx, secretKey: options.secretKey, onDefect });
  const taskRunner = createTaskRunner({ ctx, clock, handlers: taskHandlers, onError: onDefect });
  const deliverer = createDeliverer({
    ctx,
    retryScheduleMs: options.retryScheduleMs,
    attemptTimeoutMs: options.attemptTimeoutMs,
    onAttempt: (delivery, attempt) => {
      const details = { event: delivery.event, status: attempt.status_code, error: attempt.error };
      if (attempt.error === null) logger.info(`webhook ${delivery.event_type} delivered`, details);
      else logger.warn(`webhook ${delivery.event_type} not delivered`, details);
    },
  });
  const advancer = createAdvancer({ store, clock, tasks: taskRunner, attempts: deliverer });
  // A process killed while it advanced left the clock held.
  store.transaction(() => clock.release());
  moveOpenSessions(ctx);
  taskRunner.tick();
  const desk = {
    ctx,
    isFrozen: clock.isFrozen,
    act: (call: Omit<ControlRequest, 'query'>) => act({ ...call, query: '' }),
  };

  function handle(request: Request): Answer | Promise<Answer> {
    // What has become due happens before anything is answered.
    if (advancer.target() === null) taskRunner.tick();
    if (request.path.startsWith('/_sandbox/')) return control(request);
    if (request.path.startsWith('/v1/') || request.path.startsWith('/v2/')) {
      const answer = api(request);
      return { ...answer, headers: { ...answer.headers, 'content-type': 'application/json' } };
    }
    if (request.path === '/') return dashboard(desk, request.query);
    if (request.path.startsWith('/dashboard/') && request.method === 'POST') {
      return dashboardAction(desk, request);
    }
    return servePage(ctx, request);
  }

  async function act(call: ControlRequest): Promise<unknown> {
    const clockAnswer = await runClock({ store, clock, advancer }, call);
    return clockAnswer ?? runControl(ctx, options.instance, call);
  }

  async function control(request: Request): Promise<Answer> {
    try {
      return json(200, await act({ ...request, body: jsonBody(request) }));
    } catch (error) {
      if (error instanceof ApiError) return json(error.status, { error: error.body });
      onDefect(error);
      return json(500, { error: { type: 'api_error', message: 'The sandbox has a defect.' } });
    }
  }

  return {
    handle,
    async stop() {
      taskRunner.stop();
      // Together: an advance may be waiting for an answer that ends only with the sending.
      await Promise.all([advancer.stop(), deliverer.stop()]);
      options.journal?.close();
    },
  };
}

/** Links of sessions made before a restart on another port would lead nowhere. */
function moveOpenSessions(ctx: Context): void {
  ctx.store.transaction(() => {
    for (const { id, view } of ctx.store.walk(sessions, 'oldest_first')) {
      const url = checkoutUrl(ctx, id);
      if (view.status === 'open' && view.url !== url) ctx.store.patch(sessions, id, { url });
    }
  });
}

/** Only JSON: a form of a foreign web page cannot set this content type without being asked first. */
function jsonBody(request: Request): unknown {
  if (request.method === 'GET') return {};
  const type = request.headers['content-type'] ?? '';
  if (!type.startsWith('application/json')) {
    throw badRequest('The control API takes JSON: send content-type: application/json.');
  }
  try {
    return request.body === '' ? {} : JSON.parse(request.body);
  } catch {
    throw badRequest('The request body is not valid JSON.');
  }
}

function json(status: number, body: unknown): Answer {
  return {
    status,
    headers: { 'content-type': 'application/json', 'cache-control': 'no-store' },
    body: JSON.stringify(body, null, 2),
  };
}
