/** What the pages read, each answer cached once per user. */
import { keepPreviousData, QueryClient, useInfiniteQuery, useQuery } from '@tanstack/react-query';
import { useEffect } from 'react';
import { ApiError, createApi, type TransactionFilter } from './api.ts';
import { identityHeaders, identityKey, setMode, tokenRefused, useIdentity } from './identity.ts';

export const api = createApi({ identityHeaders, onUnauthenticated: tokenRefused });

const RETRIES_MAX = 2;
const RETRY_DELAY_MAX_MS = 10_000;

export const queryClient = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 10_000,
      retry: (failures, error) =>
        failures < RETRIES_MAX && error instanceof ApiError && error.transient,
      retryDelay: (failures, error) => {
        const asked = error instanceof ApiError ? error.retryAfterSeconds : null;
        return Math.min(asked === null ? 500 * 2 ** failures : asked * 1000, RETRY_DELAY_MAX_MS);
      },
    },
  },
});

/** The catalogue; its `mode` also decides who the pages act as. */
export function usePricing() {
  const query = useQuery({
    queryKey: ['pricing'],
    queryFn: ({ signal }) => api.pricing(signal),
    staleTime: 60_000,
  });
  const mode = query.data?.mode;
  useEffect(() => {
    if (mode) setMode(mode);
    else if (query.isError) setMode('unreachable');
  }, [mode, query.isError]);
  return query;
}

export function useSignedIn(): boolean {
  const { kind } = useIdentity();
  return kind === 'local' || kind === 'token';
}

export function useCredits() {
  const identity = useIdentity();
  return useQuery({
    queryKey: ['credits', identityKey(identity)],
    queryFn: ({ signal }) => api.credits(signal),
    enabled: useSignedIn(),
  });
}

export function useSubscription() {
  const identity = useIdentity();
  return useQuery({
    queryKey: ['subscription', identityKey(identity)],
    queryFn: ({ signal }) => api.subscription(signal),
    enabled: useSignedIn(),
  });
}

export function useHistory(filter: TransactionFilter) {
  const identity = useIdentity();
  return useInfiniteQuery({
    queryKey: ['history', identityKey(identity), filter],
    queryFn: ({ pageParam, signal }) => api.transactions(filter, pageParam, signal),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => (page.has_more ? page.next_cursor : null),
    enabled: useSignedIn(),
    // Keeps the table in place while another filter loads, but never another user's rows.
    placeholderData: (previous, query) =>
      query?.queryKey[1] === identityKey(identity) ? keepPreviousData(previous) : undefined,
  });
}
