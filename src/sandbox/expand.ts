import type { Context } from './context.ts';
import { badRequest } from './errors.ts';
import { isObject, type Json, type JsonObject } from './json.ts';

/**
 * What a field becomes when it is expanded. The key may be dotted where Stripe nests an id in a plain
 * group, e.g. `payment.payment_intent`. `undefined` means "nothing there": the field stays as it is.
 */
export type Expandable = Record<string, (ctx: Context, view: JsonObject) => unknown | undefined>;
/** By the `object` name of the resource. */
export type ExpandRegistry = Readonly<Record<string, Expandable>>;

/** Stripe's limit of levels in one path. */
const EXPAND_DEPTH_MAX = 4;

/** Returns a copy with the paths expanded. @throws ApiError 400 for what cannot be expanded. */
export function expandAll(
  ctx: Context,
  registry: ExpandRegistry,
  answer: unknown,
  paths: readonly string[],
): unknown {
  if (paths.length === 0) return answer;
  const copy = structuredClone(answer) as Json;
  for (const path of paths) {
    const segments = path.split('.');
    const levels = segments.filter((segment) => segment !== 'data').length;
    if (levels > EXPAND_DEPTH_MAX) {
      throw badRequest(`You can expand at most ${EXPAND_DEPTH_MAX} levels: ${path}`, {
        param: 'expand',
      });
    }
    walk(ctx, registry, copy, segments, path);
  }
  return copy;
}

function walk(
  ctx: Context,
  registry: ExpandRegistry,
  node: Json | undefined,
  segments: readonly string[],
  path: string,
): void {
  if (segments.length === 0 || !isObject(node)) return;
  if (node.object === 'list') {
    if (segments[0] !== 'data' || !Array.isArray(node.data)) throw cannotExpand(path);
    // A list ending in `.data` has nothing of its own to expand.
    if (segments.length === 1) throw cannotExpand(path);
    for (const item of node.data) walk(ctx, registry, item, segments.slice(1), path);
    return;
  }
  const expandable = registry[String(node.object)] ?? {};
  const field = longestField(expandable, segments);
  const resolve = field === undefined ? undefined : expandable[field];
  if (field === undefined || !resolve) throw cannotExpand(path);
  const names = field.split('.');
  const holder = names
    .slice(0, -1)
    .reduce<Json | undefined>((group, name) => (isObject(group) ? group[name] : undefined), node);
  const last = names.at(-1);
  if (!isObject(holder) || last === undefined) return;
  if (!isObject(holder[last])) {
    const resolved = resolve(ctx, node);
    if (resolved === undefined) return;
    holder[last] = structuredClone(resolved) as Json;
  }
  walk(ctx, registry, holder[last], segments.slice(names.length), path);
}

function longestField(expandable: Expandable, segments: readonly string[]): string | undefined {
  for (let length = segments.length; length > 0; length -= 1) {
    const field = segments.slice(0, length).join('.');
    if (Object.hasOwn(expandable, field)) return field;
  }
  return undefined;
}

function cannotExpand(path: string) {
  return badRequest(`This property cannot be expanded (${path}).`, { param: 'expand' });
}
