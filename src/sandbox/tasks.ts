import { add, type Context } from './context.ts';
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
  | 'expire_session'
  | 'settle_session'
  | 'settle_refund'
  | 'open_dispute'
  | 'end_dispute';
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

export type TaskHandlers = Readonly<Record<TaskKind, (ctx: Context, subject: string) => void>>;

/** Longest sleep between two looks at the tasks: a jump of the injected clock is seen by then. */
const TASK_LOOK_MAX_MS = 1_000;

interface TaskRunner {
  /** Runs everything due now, each task in its own transaction, and waits for the next. */
  tick(): void;
  /** Cheap: looks at the tasks only when one of them is due. */
  tickIfDue(): void;
  stop(): void;
}

export function createTaskRunner(deps: {
  ctx: Context;
  handlers: TaskHandlers;
  onError: (error: unknown) => void;
}): TaskRunner {
  const { ctx, handlers } = deps;
  let timer: NodeJS.Timeout | undefined;
  let wakesAt = Number.POSITIVE_INFINITY;
  let stopped = false;

  function arm(dueAtMs: number): void {
    if (stopped || dueAtMs >= wakesAt) return;
    clearTimeout(timer);
    wakesAt = dueAtMs;
    const delay = Math.min(Math.max(0, dueAtMs - ctx.now()), TASK_LOOK_MAX_MS);
    timer = setTimeout(tick, delay);
    timer.unref();
  }

  function tick(): void {
    wakesAt = Number.POSITIVE_INFINITY;
    const due = [...ctx.store.walk(tasks, 'oldest_first')];
    for (const { id, view, hidden } of due) {
      if (view.due_at > ctx.now()) continue;
      try {
        ctx.store.transaction(() => {
          ctx.store.remove(tasks, id);
          handlers[view.kind](ctx, hidden.subject);
        });
      } catch (error) {
        // A task that fails always would be tried for ever: it is dropped, and said.
        ctx.store.transaction(() => ctx.store.remove(tasks, id));
        deps.onError(error);
      }
    }
    for (const { view } of ctx.store.walk(tasks, 'oldest_first')) arm(view.due_at);
  }

  ctx.store.onCommit((changes) => {
    for (const change of changes) {
      if (change[0] === 'put' && change[1] === tasks.name) arm((change[2].view as Task).due_at);
    }
  });

  return {
    tick,
    tickIfDue() {
      if (ctx.now() >= wakesAt) tick();
    },
    stop() {
      stopped = true;
      clearTimeout(timer);
    },
  };
}
