import type { Change, Journal, Row } from './journal.ts';
import type { JsonObject, View } from './json.ts';

/** A typed name of a set of objects. Each resource file declares its own. */
export interface Collection<V extends View = View, H = JsonObject> {
  readonly name: string;
  /** Values by which rows are looked up, e.g. their customer; null: not in this index. */
  readonly indexes: Readonly<Record<string, (row: Row<V, H>) => string | null>>;
  /** Only for the type checker. */
  readonly row?: Row<V, H>;
}

export function collection<V extends View, H = JsonObject>(
  name: string,
  indexes: Collection<V, H>['indexes'] = {},
): Collection<V, H> {
  return { name, indexes };
}

/** Positions of removed rows are reclaimed once there are this many, and more than half. */
const HOLES_MAX = 1_000;

interface Table {
  readonly rows: Map<string, { row: Row<View, unknown>; position: number }>;
  order: (string | null)[];
  holes: number;
  /** No row stands before this position: forgetting the oldest row must not pass over all holes. */
  first: number;
  /** Ids by index name and value, kept from the first lookup on. */
  readonly indexes: Map<string, Index>;
}

interface Index {
  readonly keyOf: (row: Row<View, unknown>) => string | null;
  readonly ids: Map<string, Set<string>>;
}

/**
 * Rows in memory, in the order they were made, and journalled when there is a journal. All writes
 * happen in `transaction`, which is synchronous: requests never interleave, so no handler needs a
 * lock, and an exception undoes everything the request had written.
 */
export interface Store {
  get<V extends View, H>(from: Collection<V, H>, id: string): Row<V, H> | undefined;
  put<V extends View, H>(into: Collection<V, H>, row: Row<V, H>): Row<V, H>;
  /** Merges into view and hidden. @throws when there is no such row: a defect of the caller. */
  patch<V extends View, H>(
    into: Collection<V, H>,
    id: string,
    view: Partial<V>,
    hidden?: Partial<H>,
  ): Row<V, H>;
  remove<V extends View, H>(from: Collection<V, H>, id: string): void;
  /** Lazily walks one way, starting beyond the row `beyond` when it is given. */
  walk<V extends View, H>(
    from: Collection<V, H>,
    way: 'newest_first' | 'oldest_first',
    beyond?: string,
  ): Generator<Row<V, H>>;
  /** The rows whose index has this value, in the order they came to have it. */
  lookUp<V extends View, H>(from: Collection<V, H>, index: string, value: string): Row<V, H>[];
  size<V extends View, H>(of: Collection<V, H>): number;
  transaction<T>(work: () => T): T;
  /** Called after each committed transaction with what it wrote. */
  onCommit(listener: (changes: readonly Change[]) => void): void;
  /** Rewrites the journal to the rows of now. */
  compact(): void;
}

export function createStore(journal?: Journal): Store {
  const tables = new Map<string, Table>();
  const listeners: ((changes: readonly Change[]) => void)[] = [];
  let open: { changes: Change[]; undo: (() => void)[] } | null = null;

  function table(name: string): Table {
    let found = tables.get(name);
    if (!found) {
      found = { rows: new Map(), order: [], holes: 0, first: 0, indexes: new Map() };
      tables.set(name, found);
    }
    return found;
  }

  function applyPut(name: string, row: Row<View, unknown>): void {
    const target = table(name);
    const { rows, order } = target;
    const present = rows.get(row.id);
    reindex(target, present?.row, row);
    if (present) {
      present.row = row;
    } else {
      rows.set(row.id, { row, position: order.length });
      order.push(row.id);
    }
  }

  function applyRemove(name: string, id: string): void {
    const target = table(name);
    const present = target.rows.get(id);
    if (!present) return;
    reindex(target, present.row, undefined);
    target.rows.delete(id);
    target.order[present.position] = null;
    target.holes += 1;
    while (target.first < target.order.length && target.order[target.first] === null) {
      target.first += 1;
    }
    // Never inside a transaction: its undo steps remember positions.
    if (!open) reclaim(target);
  }

  function reclaim(target: Table): void {
    if (target.holes < HOLES_MAX || target.holes * 2 < target.order.length) return;
    target.order = target.order.filter((id) => id !== null);
    target.order.forEach((id, position) => {
      const entry = id === null ? undefined : target.rows.get(id);
      if (entry) entry.position = position;
    });
    target.holes = 0;
    target.first = 0;
  }

  function reindex(
    { indexes }: Table,
    before: Row<View, unknown> | undefined,
    after: Row<View, unknown> | undefined,
  ): void {
    for (const { keyOf, ids } of indexes.values()) {
      const old = before ? keyOf(before) : null;
      const fresh = after ? keyOf(after) : null;
      if (old === fresh) continue;
      if (old !== null && before) ids.get(old)?.delete(before.id);
      if (fresh !== null && after) listOf(ids, fresh).add(after.id);
    }
  }

  function listOf(ids: Map<string, Set<string>>, value: string): Set<string> {
    let list = ids.get(value);
    if (!list) {
      list = new Set();
      ids.set(value, list);
    }
    return list;
  }

  function indexOf<V extends View, H>(from: Collection<V, H>, name: string): Index {
    const target = table(from.name);
    const present = target.indexes.get(name);
    if (present) return present;
    const keyOf = from.indexes[name] as Index['keyOf'] | undefined;
    if (!keyOf) throw new Error(`The sandbox has no index ${name} of ${from.name}.`);
    const index: Index = { keyOf, ids: new Map() };
    for (const row of store.walk(from, 'oldest_first')) {
      const value = keyOf(row as Row<View, unknown>);
      if (value !== null) listOf(index.ids, value).add(row.id);
    }
    target.indexes.set(name, index);
    return index;
  }

  function writing(): { changes: Change[]; undo: (() => void)[] } {
    if (!open) throw new Error('The sandbox store is written outside a transaction.');
    return open;
  }

  function* allRows(): Generator<Change> {
    for (const [name, { order, rows }] of tables) {
      for (const id of order) {
        const entry = id === null ? undefined : rows.get(id);
        if (entry) yield ['put', name, entry.row];
      }
    }
  }

  const store: Store = {
    get<V extends View, H>(from: Collection<V, H>, id: string) {
      return table(from.name).rows.get(id)?.row as Row<V, H> | undefined;
    },
    put(into, row) {
      const { changes, undo } = writing();
      const before = table(into.name).rows.get(row.id)?.row;
      applyPut(into.name, row);
      undo.push(() => (before ? applyPut(into.name, before) : applyRemove(into.name, row.id)));
      changes.push(['put', into.name, row]);
      return row;
    },
    patch(into, id, view, hidden) {
      const before = store.get(into, id);
      if (!before) throw new Error(`The sandbox has no ${into.name} ${id} to change.`);
      return store.put(into, {
        id,
        view: { ...before.view, ...view },
        hidden: { ...before.hidden, ...hidden },
      });
    },
    remove(from, id) {
      const { changes, undo } = writing();
      const entry = table(from.name).rows.get(id);
      if (!entry) return;
      const { row, position } = entry;
      applyRemove(from.name, id);
      undo.push(() => {
        const target = table(from.name);
        target.rows.set(id, { row, position });
        target.order[position] = id;
        target.holes -= 1;
        target.first = Math.min(target.first, position);
        reindex(target, undefined, row);
      });
      changes.push(['del', from.name, id]);
    },
    *walk<V extends View, H>(
      from: Collection<V, H>,
      way: 'newest_first' | 'oldest_first',
      beyond?: string,
    ) {
      const { order, rows, first } = table(from.name);
      const step = way === 'newest_first' ? -1 : 1;
      const start = beyond === undefined ? undefined : rows.get(beyond)?.position;
      let position = start === undefined ? (step === 1 ? first : order.length - 1) : start + step;
      for (; position >= 0 && position < order.length; position += step) {
        const id = order[position];
        const entry = id === null || id === undefined ? undefined : rows.get(id);
        if (entry) yield entry.row as Row<V, H>;
      }
    },
    lookUp<V extends View, H>(from: Collection<V, H>, name: string, value: string) {
      const { rows } = table(from.name);
      const ids = indexOf(from, name).ids.get(value) ?? [];
      return [...ids].map((id) => rows.get(id)?.row as Row<V, H>);
    },
    size: (of) => table(of.name).rows.size,
    transaction(work) {
      if (open) return work();
      const current = { changes: [] as Change[], undo: [] as (() => void)[] };
      open = current;
      try {
        const result = work();
        if (current.changes.length > 0) journal?.append(current.changes);
        open = null;
        for (const [kind, name] of current.changes) if (kind === 'del') reclaim(table(name));
        if (current.changes.length > 0) for (const listen of listeners) listen(current.changes);
        if (journal?.shouldRewrite()) store.compact();
        return result;
      } catch (error) {
        if (open) {
          for (const undo of current.undo.reverse()) undo();
          open = null;
        }
        throw error;
      }
    },
    onCommit: (listener) => void listeners.push(listener),
    compact: () => journal?.rewrite(allRows()),
  };

  for (const change of journal?.replay() ?? []) {
    if (change[0] === 'put') applyPut(change[1], change[2]);
    else applyRemove(change[1], change[2]);
  }
  return store;
}
