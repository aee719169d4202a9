import { AsyncResource } from 'node:async_hooks';
import { PurserError } from '../core/errors.ts';
import { BATCH_OPERATIONS_MAX, type SpendOperation } from './ledger.ts';
import { type Pending, type SpendCallDeps, type Spent, settleSpends } from './spendCall.ts';

/** JSON of the operations of one call. */
const CALL_BYTES_MAX = 256 * 1024;
/**
 * Calls of mixed users at the same time. Two make smaller batches of the same load: measured over
 * 2 to 32 clients at the same rate for a quarter more CPU.
 */
const SHARED_CALLS_MAX = 1;
/**
 * Calls of one user alone at the same time, each on a connection of its own. Users whose rows are
 * locked wait in them; and while few spend, single spends go out in them side by side, since
 * consume_credits takes half the CPU of a batch of one.
 */
const ALONE_CALLS_MAX = 4;
/** Spends that wait to be sent, in all; more would only be answered too late. */
export const QUEUED_MAX = 5_000;
/** Of one user: one whose row others hold must not fill the queue of all. */
export const QUEUED_PER_USER_MAX = 2_500;
/** A spend that could not be sent within this time is refused: its caller has mostly gone. */
const QUEUED_MS_MAX = 10_000;
const RETRY_AFTER_SECONDS = 1;

/** One call to the database, for whoever counts. */
export interface CoalescedCall {
  operations: number;
  /** True for a call of one user, which may wait for its lock. */
  alone: boolean;
  /** Spends that have no place in it and wait for the next. */
  waiting: number;
}

export interface CoalescerDeps extends SpendCallDeps {
  /** Milliseconds that only grow; default the process' own. */
  nowMs?: () => number;
  /** Told of each call as it is sent. */
  observe?: (call: CoalescedCall) => void;
}

export interface Coalescer {
  /**
   * Spends once per key, as consume_credits does, together with what others spend at the same
   * time. Rejects with `overloaded` when too many wait, one has waited too long, or Purser is
   * stopping: nothing was sent then. Other errors are those of the database port. May be repeated
   * with the same key.
   */
  spend(operation: SpendOperation): Promise<Spent>;
  /** Takes no more; resolves when all that were taken have been answered. */
  drain(): Promise<void>;
}

interface Queued extends Pending {
  readonly bytes: number;
  readonly queuedAtMs: number;
}

/** The spends of one user that wait; kept while there are any, or a call of that user is out. */
interface UserQueue {
  readonly userId: string;
  waiting: Queued[];
  /** Its row was found locked, or a spend of it failed: it goes out alone until nothing waits. */
  alone: boolean;
}

/**
 * Makes one call to the database of the spends that come while another is out: one durable commit
 * serves them all, and each caller has its own exact answer.
 *
 * A user is in one call at a time, since two would wait for each other's lock. Calls of mixed
 * users skip rows that are locked; such a user goes on in calls of its own, which wait, and what
 * it spends meanwhile gathers: nobody waits beside it, and it keeps its batches. Nothing runs by a
 * timer: the first spend is sent at once, and the end of a call sends the next.
 */
export function createCoalescer(deps: CoalescerDeps): Coalescer {
  const { nowMs = () => performance.now(), observe } = deps;
  const users = new Map<string, UserQueue>();
  /** Users with spends that wait and no call that is out, first come first; in one of the two. */
  const ready = new Set<UserQueue>();
  const readyAlone = new Set<UserQueue>();
  let queued = 0;
  let sharedCalls = 0;
  let aloneCalls = 0;
  let draining: { done: Promise<void>; resolve: () => void } | null = null;
  // A call serves many requests, so it belongs to none of them: not to its log context, either.
  const outside = new AsyncResource('SpendCoalescer');

  function startNext(): void {
    for (const queue of readyAlone) {
      if (aloneCalls === ALONE_CALLS_MAX) break;
      startAlone(queue);
    }
    while (ready.size > 0 && sharedCalls < SHARED_CALLS_MAX) {
      const [first] = ready;
      const isSingle = first?.waiting.length === 1 && ready.size === 1;
      if (first !== undefined && isSingle && aloneCalls < ALONE_CALLS_MAX) startAlone(first);
      else startShared();
    }
    if (users.size === 0) draining?.resolve();
  }

  function startAlone(queue: UserQueue): void {
    const call = newCall();
    ready.delete(queue);
    readyAlone.delete(queue);
    take(queue, call);
    void run(call.spends, [queue], true);
  }

  function startShared(): void {
    const call = newCall();
    const inCall: UserQueue[] = [];
    for (const queue of ready) {
      const [first] = queue.waiting;
      if (first !== undefined && !hasPlace(call, first)) break;
      ready.delete(queue);
      inCall.push(queue);
      take(queue, call);
    }
    void run(call.spends, inCall, false);
  }

  async function run(spends: Queued[], inCall: UserQueue[], alone: boolean): Promise<void> {
    if (alone) aloneCalls += 1;
    else sharedCalls += 1;
    if (spends.length > 0) observe?.({ operations: spends.length, alone, waiting: queued });
    const settled = await outside.runInAsyncScope(settleSpends<Queued>, null, deps, spends, alone);
    // A batch ends when its callers are answered and what has arrived meanwhile is read: those who
    // spend again upon the answer come into one call, not one after the other.
    if (spends.length > 1) {
      settled.answer();
      await endOfTurn();
    }
    if (alone) aloneCalls -= 1;
    else sharedCalls -= 1;
    for (const spend of settled.undecided.toReversed()) {
      // A user keeps its queue while a call of it is out.
      const queue = users.get(spend.operation.user_id) as UserQueue;
      queue.alone = true;
      queue.waiting.unshift(spend);
      queued += 1;
    }
    for (const queue of inCall) {
      if (queue.waiting.length === 0) users.delete(queue.userId);
      else (queue.alone ? readyAlone : ready).add(queue);
    }
    startNext();
    // A single caller that spends again upon its answer finds the lane free.
    if (spends.length <= 1) settled.answer();
  }

  /** Moves waiting spends into the call, as many as have a place there. */
  function take(queue: UserQueue, call: Call): void {
    const oldestMs = nowMs() - QUEUED_MS_MAX;
    let taken = 0;
    for (const spend of queue.waiting) {
      if (spend.queuedAtMs < oldestMs) {
        spend.reject(overloaded(`The spend could not be sent within ${QUEUED_MS_MAX / 1000} s`));
      } else if (hasPlace(call, spend)) {
        call.spends.push(spend);
        call.bytes += spend.bytes;
      } else break;
      taken += 1;
    }
    queue.waiting = queue.waiting.slice(taken);
    queued -= taken;
  }

  return {
    spend(operation) {
      const { user_id: userId } = operation;
      const queue = users.get(userId) ?? { userId, waiting: [], alone: false };
      const refusal = refusalOf(queue);
      if (refusal !== null) return Promise.reject(refusal);
      return new Promise<Spent>((resolve, reject) => {
        const bytes = Buffer.byteLength(JSON.stringify(operation));
        queue.waiting.push({ operation, bytes, queuedAtMs: nowMs(), resolve, reject });
        queued += 1;
        if (users.has(userId)) return;
        users.set(userId, queue);
        ready.add(queue);
        startNext();
      });
    },
    drain() {
      draining ??= deferred();
      if (users.size === 0) draining.resolve();
      return draining.done;
    },
  };

  function refusalOf(queue: UserQueue): PurserError | null {
    if (draining !== null) return overloaded('Purser is stopping');
    if (queued >= QUEUED_MAX) return overloaded(`More than ${QUEUED_MAX} spends wait`);
    if (queue.waiting.length < QUEUED_PER_USER_MAX) return null;
    return overloaded(`More than ${QUEUED_PER_USER_MAX} spends of this user wait`);
  }
}

/** Resolves when the event loop has read what has arrived. */
const endOfTurn = () => new Promise<void>((resolve) => void setImmediate(resolve));

interface Call {
  spends: Queued[];
  bytes: number;
}

const newCall = (): Call => ({ spends: [], bytes: 0 });

function hasPlace({ spends, bytes }: Call, spend: Queued): boolean {
  // One that is too large by itself is for the database to judge.
  if (spends.length === 0) return true;
  return spends.length < BATCH_OPERATIONS_MAX && bytes + spend.bytes <= CALL_BYTES_MAX;
}

function overloaded(why: string): PurserError {
  return new PurserError('overloaded', {
    detail: `${why}. Nothing was spent; send it again with the same key.`,
    retryAfterSeconds: RETRY_AFTER_SECONDS,
  });
}

function deferred(): { done: Promise<void>; resolve: () => void } {
  let resolve = () => {};
  const done = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { done, resolve };
}
