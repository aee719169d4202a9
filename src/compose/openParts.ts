interface Part {
  stop(): Promise<void>;
}

/**
 * Waits for parts that are being opened side by side. When one fails, those that did open are
 * stopped, the last one first, and the first failure is thrown.
 */
export async function openParts<T extends readonly Part[]>(
  openings: {
    [K in keyof T]: Promise<T[K]>;
  },
): Promise<T> {
  const results = await Promise.allSettled<Part>(openings);
  const failure = results.find((result) => result.status === 'rejected');
  if (failure === undefined) {
    return results.map((result) => (result as PromiseFulfilledResult<Part>).value) as unknown as T;
  }
  for (const result of results.toReversed()) {
    if (result.status === 'fulfilled') await result.value.stop();
  }
  throw failure.reason;
}
