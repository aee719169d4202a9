/**
 * Follows one purchase on the success page: asks the server to settle it (which credits a paid
 * session even if the webhook is late) until that is answered once, then only looks, at growing
 * intervals, until the purchase has ended.
 */
import { type Query, useQuery, useQueryClient } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { ApiError, type CheckoutState, type CheckoutStatus } from './api.ts';
import { identityKey, useIdentity } from './identity.ts';
import { api } from './queries.ts';

const FIRST_DELAY_MS = 1_000;
const DELAY_GROWTH = 1.4;
const DELAY_MAX_MS = 20_000;
/** About eight minutes of looking; after that the visitor decides. */
const LOOKS_MAX = 30;
/** After this long most people start to worry, so the page explains what may take time. */
const EXPLAIN_AFTER_MS = 8_000;

const ENDS: ReadonlySet<CheckoutState> = new Set(['credited', 'expired', 'failed']);

export interface Settlement {
  status: CheckoutStatus | null;
  /** The latest failure; a transient one is being tried again. */
  error: Error | null;
  /** True once it has taken long enough to explain why. */
  slow: boolean;
  /** True when the page has stopped looking by itself. */
  paused: boolean;
  lookAgain(): void;
}

export function useSettlement(sessionId: string): Settlement {
  const identity = useIdentity();
  const client = useQueryClient();
  const [round, setRound] = useState(0);
  const queryKey = ['purchase', identityKey(identity), sessionId, round];
  const looksSoFar = () => countLooks(client.getQueryState(queryKey));

  const { data, error, dataUpdatedAt, errorUpdatedAt } = useQuery<CheckoutStatus>({
    queryKey,
    queryFn: ({ signal }) =>
      client.getQueryData(queryKey) === undefined
        ? api.fulfillCheckout(sessionId, signal)
        : api.checkoutStatus(sessionId, signal),
    enabled: identity.kind !== 'pending' && sessionId !== '',
    staleTime: FIRST_DELAY_MS,
    // The interval is the retry: it is bounded, grows, and rests while the tab is hidden.
    retry: false,
    refetchIntervalInBackground: false,
    refetchInterval: (query) => (hasEnded(query) ? false : nextDelay(countLooks(query.state))),
    refetchOnWindowFocus: (query) => !hasEnded(query),
    refetchOnReconnect: (query) => !hasEnded(query),
  });

  const credited = data?.status === 'credited';
  useEffect(() => {
    if (!credited) return;
    void client.invalidateQueries({ queryKey: ['credits'] });
    void client.invalidateQueries({ queryKey: ['history'] });
    void client.invalidateQueries({ queryKey: ['subscription'] });
  }, [credited, client]);

  // Each look moves one of these times, so the count below is read anew after each.
  const looked = dataUpdatedAt + errorUpdatedAt > 0;
  const ended = data !== undefined && ENDS.has(data.status);
  return {
    status: data ?? null,
    error,
    slow: useElapsed(EXPLAIN_AFTER_MS, round),
    paused: looked && !ended && looksSoFar() >= LOOKS_MAX,
    lookAgain: () => setRound((value) => value + 1),
  };
}

interface Counts {
  dataUpdateCount: number;
  errorUpdateCount: number;
}

function countLooks(state: Counts | undefined): number {
  return state ? state.dataUpdateCount + state.errorUpdateCount : 0;
}

function nextDelay(looks: number): number | false {
  if (looks >= LOOKS_MAX) return false;
  return Math.min(FIRST_DELAY_MS * DELAY_GROWTH ** looks, DELAY_MAX_MS);
}

function hasEnded({ state }: Query<CheckoutStatus>): boolean {
  if (state.error instanceof ApiError && !state.error.transient) return true;
  return state.data !== undefined && ENDS.has(state.data.status);
}

function useElapsed(ms: number, restart: number): boolean {
  const [elapsedIn, setElapsedIn] = useState<number | null>(null);
  useEffect(() => {
    const timer = setTimeout(() => setElapsedIn(restart), ms);
    return () => clearTimeout(timer);
  }, [ms, restart]);
  return elapsedIn === restart;
}
