import type { Context } from './context.ts';
import { type Parsed, required, type Shape, text } from './params.ts';

type Method = 'GET' | 'POST' | 'DELETE';

/** Ids taken from the path, by the names in the pattern. */
type PathIds = Readonly<Record<string, string>>;

export interface Route {
  readonly method: Method;
  /** E.g. `/v1/prices/:id`. */
  readonly pattern: string;
  readonly params: Shape;
  /** Runs inside one transaction and returns the object or list to answer. */
  readonly run: (ctx: Context, params: never, ids: PathIds) => unknown;
}

/** One API call: its parameters are parsed by `params` before `run` sees them. */
export function route<S extends Shape>(
  method: Method,
  pattern: string,
  params: S,
  run: (ctx: Context, params: Parsed<S>, ids: PathIds) => unknown,
): Route {
  return { method, pattern, params, run };
}

/** The id in the path; the pattern guarantees it. */
export function idOf(ids: PathIds, name = 'id'): string {
  return required(text()).parse(ids[name] ?? '', name);
}

/** Calls of Stripe that stand where an id may stand: when they are not served, no id is meant. */
const WORDS: ReadonlySet<string> = new Set(['search', 'create_preview', 'upcoming']);

interface Match {
  readonly route: Route;
  readonly ids: PathIds;
}

/** Finds the route of a request. Patterns with fixed words win, because they are listed first. */
export function createMatcher(routes: readonly Route[]) {
  const compiled = routes.map((route) => ({
    route,
    segments: route.pattern.split('/').slice(1),
  }));
  return (method: string, path: string): Match | null => {
    const parts = path.split('/').slice(1);
    for (const { route, segments } of compiled) {
      if (route.method !== method || segments.length !== parts.length) continue;
      const ids: Record<string, string> = {};
      const fits = segments.every((segment, at) => {
        const part = parts[at] ?? '';
        if (!segment.startsWith(':')) return segment === part;
        const id = decode(part);
        ids[segment.slice(1)] = id;
        return id !== '' && !WORDS.has(id);
      });
      if (fits) return { route, ids };
    }
    return null;
  };
}

/** A segment of a path as it was meant. */
export function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    // A malformed escape is simply an id nothing has.
    return part;
  }
}
