import type { Clock, Database, Json, Logger, RunAfterResponse } from '../core/ports.ts';

/** A copy this young is given out without asking anybody: what a page shows is at most this old. */
const FRESH_MS = 60_000;
/** How long an answer counts in the database, for all processes; events end it sooner. */
const TTL_SECONDS = 3600;
/** From here on it is renewed behind the reader's back, so that nobody waits for Stripe. */
const RENEW_SECONDS = 300;
/** While Stripe is away an answer this much past its end is still shown. */
const STALE_MAX_MS = 3_600_000;
/** Keys one process remembers; the oldest goes first. */
const KEYS_MAX = 1_000;
/** Hits are counted here and added to the table at most this often. */
const FLUSH_MS = 60_000;

export interface StripeCacheDeps {
  db: Database;
  clock: Clock;
  logger: Logger;
  runAfterResponse: RunAfterResponse;
}

export interface CacheCounts {
  /** Answered without a call to Stripe. */
  hits: number;
  /** Answered by Stripe while the reader waited. */
  misses: number;
  /** Asked of Stripe before the end, while the reader was answered from the cache. */
  renewals: number;
  /** Shown past their end because Stripe was away. */
  stale: number;
}

/**
 * Answers of Stripe's API kept in `cache_store` (an hour, shared by all processes) and in this
 * process (a minute). Losing all of it costs calls, never a credit: money decisions that need
 * the present state read Stripe. An answer that was asked for before a change, and arrives after the
 * event of the change in whatever process, is given to those who waited for it and then forgotten.
 */
export interface StripeCache {
  /**
   * The answer under `key`, or what `load` gives. One load at a time and key: a crowd before a cold
   * cache makes one call. `accept` says whether a stored answer can be used (a catalogue may have
   * changed since). Errors: those of `load`.
   */
  read<T extends Json>(
    key: string,
    load: () => Promise<T>,
    accept?: (value: T) => boolean,
  ): Promise<T>;
  /** Renews what this process has read lately and ends within five minutes. Job `cache-warm`. */
  warm(): Promise<{ renewed: number }>;
  /** Forgets what this process holds; the table is emptied by the event's own transaction. */
  forget(): void;
  /** Adds the hits counted here to the table. */
  flush(): Promise<void>;
  counts(): CacheCounts;
}

interface Kept {
  value: Json;
  /** When this process got it. */
  at: number;
  /** When it ends for all processes. */
  endsAt: number;
  load: () => Promise<Json>;
}

interface StoredAnswer {
  outcome: 'hit' | 'ended' | 'miss';
  value: Json;
  expires_in_seconds: number | null;
  /** Changes with each invalidation of the key; null when it was just being cleaned up. */
  version: string | null;
}

export function createStripeCache(deps: StripeCacheDeps): StripeCache {
  const { db, clock, logger, runAfterResponse } = deps;
  const kept = new Map<string, Kept>();
  const loading = new Map<string, Promise<Json>>();
  const counts: CacheCounts = { hits: 0, misses: 0, renewals: 0, stale: 0 };
  let unflushed = new Map<string, number>();
  let flushedAt = clock.now().getTime();
  /** Raised by `forget`: an answer that was asked for before is not kept after. */
  let generation = 0;

  function hit(key: string): void {
    counts.hits += 1;
    unflushed.set(key, (unflushed.get(key) ?? 0) + 1);
    if (clock.now().getTime() - flushedAt < FLUSH_MS) return;
    flushedAt = clock.now().getTime();
    runAfterResponse(flush());
  }

  function keep(key: string, entry: Kept): void {
    kept.delete(key);
    kept.set(key, entry);
    const oldest = kept.keys().next();
    if (kept.size > KEYS_MAX && !oldest.done) kept.delete(oldest.value);
  }

  /** Given out without asking anybody. */
  function isFresh({ at, endsAt }: Kept): boolean {
    const now = clock.now().getTime();
    return now - at < FRESH_MS && now < endsAt;
  }

  async function stored(key: string): Promise<StoredAnswer | null> {
    try {
      return await db.rpc<StoredAnswer>('read_stripe_cache', {
        p_cache_key: key,
        p_now: clock.now().toISOString(),
      });
    } catch (error) {
      // Prices are shown while the database is away, as long as Stripe answers.
      logger.warn('The cache of Stripe answers could not be read', { key, error });
      return null;
    }
  }

  async function store(key: string, value: Json, version: string): Promise<string | null> {
    try {
      const { outcome } = await db.rpc<{ outcome: 'applied' | 'outdated' }>('cache_stripe_data', {
        p_cache_key: key,
        p_data: value,
        p_ttl_seconds: TTL_SECONDS,
        p_now: clock.now().toISOString(),
        p_version: version,
      });
      return outcome;
    } catch (error) {
      logger.warn('An answer of Stripe could not be cached', { key, error });
      return null;
    }
  }

  /**
   * Asks Stripe and keeps the answer; one at a time for each key. `seen` is what the database said
   * before: without its version nobody could tell whether the answer is older than a change that
   * another process has heard of. Such an answer is kept here for its minute, and for nobody else.
   */
  function renew(key: string, load: () => Promise<Json>, seen: StoredAnswer | null): Promise<Json> {
    const underWay = loading.get(key);
    if (underWay !== undefined) return underWay;
    const asked = generation;
    const renewal = (async () => {
      const value = await load();
      if (generation !== asked) return value;
      const at = clock.now().getTime();
      const entry = { value, at, endsAt: at + TTL_SECONDS * 1000, load };
      keep(key, entry);
      if (
        typeof seen?.version === 'string' &&
        (await store(key, value, seen.version)) === 'outdated'
      ) {
        if (kept.get(key) === entry) kept.delete(key);
      }
      return value;
    })().finally(() => {
      if (loading.get(key) === renewal) loading.delete(key);
    });
    loading.set(key, renewal);
    return renewal;
  }

  function renewBehind(key: string, load: () => Promise<Json>, seen: StoredAnswer): void {
    if (loading.has(key)) return;
    counts.renewals += 1;
    runAfterResponse(
      renew(key, load, seen).catch((error: unknown) =>
        logger.warn('An answer of Stripe could not be renewed before its end', { key, error }),
      ),
    );
  }

  async function flush(): Promise<void> {
    const counted = [...unflushed].map(([key, hits]) => ({ key, hits }));
    if (counted.length === 0) return;
    unflushed = new Map();
    await db
      .rpc(
        'count_cache_hits',
        { p_hits: counted, p_now: clock.now().toISOString() },
        { idempotent: false },
      )
      .catch((error: unknown) => logger.warn('Cache hits could not be counted', { error }));
  }

  return {
    async read<T extends Json>(
      key: string,
      load: () => Promise<T>,
      accept: (value: T) => boolean = () => true,
    ): Promise<T> {
      const now = clock.now().getTime();
      const own = kept.get(key);
      const usable = own !== undefined && accept(own.value as T) ? own : undefined;
      if (usable !== undefined && isFresh(usable)) {
        hit(key);
        return usable.value as T;
      }
      const asked = generation;
      const shared = loading.has(key) ? null : await stored(key);
      const acceptable =
        shared !== null && shared.outcome !== 'miss' && accept(shared.value as T) ? shared : null;
      if (acceptable?.outcome === 'hit') {
        const seconds = acceptable.expires_in_seconds ?? 0;
        if (generation === asked) {
          keep(key, { value: acceptable.value, at: now, endsAt: now + seconds * 1000, load });
        }
        if (seconds < RENEW_SECONDS) renewBehind(key, load, acceptable);
        hit(key);
        return acceptable.value as T;
      }
      // Somebody else may have asked Stripe, and been answered, while this one looked.
      const meanwhile = kept.get(key);
      if (meanwhile !== undefined && isFresh(meanwhile) && accept(meanwhile.value as T)) {
        hit(key);
        return meanwhile.value as T;
      }
      try {
        const value = (await renew(key, load, shared)) as T;
        counts.misses += 1;
        return value;
      } catch (error) {
        const past = acceptable === null ? null : -(acceptable.expires_in_seconds ?? 0) * 1000;
        const last =
          past !== null && past <= STALE_MAX_MS
            ? acceptable
            : usable !== undefined && now - usable.endsAt <= STALE_MAX_MS
              ? usable
              : null;
        if (last === null) throw error;
        counts.stale += 1;
        logger.warn('Stripe could not be asked, showing its last answer', { key, error });
        return last.value as T;
      }
    },

    async warm() {
      const now = clock.now().getTime();
      const ending = [...kept].filter(
        ([, { endsAt }]) => endsAt > now && endsAt - now < RENEW_SECONDS * 1000,
      );
      for (const [key, { load }] of ending) {
        counts.renewals += 1;
        await renew(key, load, await stored(key));
      }
      await flush();
      return { renewed: ending.length };
    },

    forget() {
      generation += 1;
      kept.clear();
      loading.clear();
    },
    flush,
    counts: () => ({ ...counts }),
  };
}
