import type { Clock } from './clock.ts';
import { add, type Context } from './context.ts';
import { createDueQueue } from './dueQueue.ts';
import { tasks } from './tables.ts';

/** Work that becomes due at a time of the simulated account. Kept in the store, so it survives. */
export type Task = {
  id: string;
  object: 'sandbox.task';
  kind: TaskKind;
  /** Milliseconds, in the clock of `Context.now`. */
  due_at: number;
};
type TaskKind =
  | 'cancel_subscription'
  | 'end_dispute'
  | 'expire_incomplete'
  | 'expire_session'
  | 'finalize_invoice'
  | 'open_dispute'
  | 'renew_subscription'
  | 'resume_collection'
  | 'retry_invoice'
  | 'settle_refund'
  | 'settle_session'
  | 'trial_will_end';
export type TaskHidden = { subject: string };

/** One task per kind and subject: scheduling it again moves it. */
export function schedule(ctx: Context, kind: TaskKind, subject: string, dueAtMs: number): void {
  const id = taskId(kind, subject);
  add(ctx, tasks, { id, object: 'sandbox.task', kind, due_at: dueAtMs }, { subject });
}

export function unschedule(ctx: Context, kind: TaskKind, subject: string): void {
  ctx.store.remove(tasks, taskId(kind, subject));
}

function taskId(kind: TaskKind, subject: string): string {
  return `${kind}:${subject}`;
}

export type TaskHandler = (ctx: Context, subject: string) => void;
export type TaskHandlers = Readonly<Record<TaskKind, TaskHandler>>;

/** Longest sleep between two looks at the tasks: a jump of the injected clock is seen by then. */
const TASK_LOOK_MAX_MS = 1_000;

interface TaskRunner {
  /** Runs everything due now in the order of time, each task in its own transaction and instant. */
  tick(): void;
  /** Null when nothing is planned. Milliseconds. */
  nextDueAt(): number | null;
  /** Runs the earliest task, with the account's clock moved to `atMs` in the same transaction. */
  runNext(atMs: number): void;
  stop(): void;
}

export function createTaskRunner(deps: {
  ctx: Context;
  clock: Clock;
  handlers: TaskHandlers;
  onError: (error: unknown) => void;
}): TaskRunner {
  const { ctx, clock, handlers } = deps;
  const queue = createDueQueue();
  let timer: NodeJS.Timeout | undefined;
  let wakesAt = Number.POSITIVE_INFINITY;
  let stopped = false;

  function arm(): void {
    const next = queue.peek();
    if (stopped || !next || next.dueAtMs >= wakesAt) return;
    clearTimeout(timer);
    wakesAt = next.dueAtMs;
    const delay = Math.min(Math.max(0, next.dueAtMs - ctx.now()), TASK_LOOK_MAX_MS);
    timer = setTimeout(tick, delay);
    timer.unref();
  }

  function tick(): void {
    wakesAt = Number.POSITIVE_INFINITY;
    for (let next = queue.peek(); next && next.dueAtMs <= ctx.now(); next = queue.peek()) {
      run(next.id, next.dueAtMs, () => {});
    }
    arm();
  }

  function run(id: string, atMs: number, before: () => void): void {
    const found = ctx.store.get(tasks, id);
    try {
      clock.during(atMs, () =>
        ctx.store.transaction(() => {
          before();
          ctx.store.remove(tasks, id);
          if (found) handlers[found.view.kind](ctx, found.hidden.subject);
        }),
      );
    } catch (error) {
      // A task that fails always would be tried for ever: it is dropped, and said.
      ctx.store.transaction(() => ctx.store.remove(tasks, id));
      deps.onError(error);
    }
  }

  ctx.store.onCommit((changes) => {
    for (const change of changes) {
      if (change[1] !== tasks.name) continue;
      if (change[0] === 'put') queue.set(change[2].id, (change[2].view as Task).due_at);
      else queue.delete(change[2]);
    }
    arm();
  });
  for (const { id, view } of ctx.store.walk(tasks, 'oldest_first')) queue.set(id, view.due_at);
  arm();

  return {
    tick,
    nextDueAt: () => queue.peek()?.dueAtMs ?? null,
    runNext(atMs) {
      const next = queue.peek();
      if (next) run(next.id, atMs, () => clock.moveTo(atMs));
    },
    stop() {
      stopped = true;
      clearTimeout(timer);
    },
  };
}
