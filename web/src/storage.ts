/**
 * Web storage that works without storage: browsers throw on the mere access when a user blocks
 * site data. The pages then work for as long as they are open, which is what such a user asked for.
 */
export interface Store {
  read(key: string): string | null;
  write(key: string, value: string | null): void;
}

export function createStore(area: () => Storage): Store {
  const memory = new Map<string, string>();
  let storage: Storage | null = null;
  try {
    storage = area();
  } catch {
    storage = null;
  }
  return {
    read: (key) => memory.get(key) ?? storage?.getItem(key) ?? null,
    write(key, value) {
      memory.delete(key);
      try {
        if (value === null) storage?.removeItem(key);
        else if (storage) storage.setItem(key, value);
      } catch {
        // Full or refused: the value lives in memory below instead.
        storage = null;
      }
      if (!storage && value !== null) memory.set(key, value);
    },
  };
}
