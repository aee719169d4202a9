/** Things by the time they are due, earliest first; of equal times the first that was set. */
export interface DueQueue {
  /** Enters `id`, or moves it. Milliseconds. */
  set(id: string, dueAtMs: number): void;
  delete(id: string): void;
  /** The earliest, or null when there is none. */
  peek(): { readonly id: string; readonly dueAtMs: number } | null;
  readonly size: number;
}

interface Entry {
  readonly id: string;
  readonly dueAtMs: number;
  readonly turn: number;
}

/**
 * A binary heap: a simulated year has a hundred thousand due times, and looking through all of them
 * for each step would make it quadratic. What was moved or deleted stays in the heap until it comes
 * to the top, and is passed over there.
 */
export function createDueQueue(): DueQueue {
  const heap: Entry[] = [];
  const current = new Map<string, Entry>();
  let turns = 0;

  const earlier = (left: Entry, right: Entry) =>
    left.dueAtMs < right.dueAtMs || (left.dueAtMs === right.dueAtMs && left.turn < right.turn);

  function rise(entry: Entry): void {
    let at = heap.length;
    heap.push(entry);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = heap[parent] as Entry;
      if (!earlier(entry, above)) break;
      heap[at] = above;
      at = parent;
    }
    heap[at] = entry;
  }

  function dropTop(): void {
    const last = heap.pop();
    if (!last || heap.length === 0) return;
    let at = 0;
    for (;;) {
      const left = 2 * at + 1;
      if (left >= heap.length) break;
      const right = left + 1;
      const below =
        right < heap.length && earlier(heap[right] as Entry, heap[left] as Entry) ? right : left;
      if (!earlier(heap[below] as Entry, last)) break;
      heap[at] = heap[below] as Entry;
      at = below;
    }
    heap[at] = last;
  }

  return {
    set(id, dueAtMs) {
      if (current.get(id)?.dueAtMs === dueAtMs) return;
      const entry = { id, dueAtMs, turn: turns };
      turns += 1;
      current.set(id, entry);
      rise(entry);
    },
    delete: (id) => void current.delete(id),
    peek() {
      for (let top = heap[0]; top; top = heap[0]) {
        if (current.get(top.id) === top) return top;
        dropTop();
      }
      return null;
    },
    get size() {
      return current.size;
    },
  };
}
