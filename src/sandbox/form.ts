import { badRequest } from './errors.ts';

/**
 * Form decoding as Stripe's API does it: `a[b][0][c]=x`. Lists stay objects keyed by index, because
 * only the parameter's declaration knows whether `0` is an index or a metadata key.
 */
export type FormValue = string | FormObject;
export interface FormObject {
  [key: string]: FormValue;
}

/** Pairs in one request; the SDK sends about ten per line item. */
const FORM_PAIRS_MAX = 5_000;
const FORM_DEPTH_MAX = 12;

// Null prototype: `metadata[__proto__]` must be data, never a prototype.
function emptyForm(): FormObject {
  return Object.create(null) as FormObject;
}

/** @throws ApiError 400 when a key is malformed or used both as a value and as a group. */
export function decodeForm(text: string): FormObject {
  const root = emptyForm();
  let pairs = 0;
  for (const [key, value] of new URLSearchParams(text)) {
    pairs += 1;
    if (pairs > FORM_PAIRS_MAX) {
      throw badRequest(`Too many parameters: at most ${FORM_PAIRS_MAX} in one request.`);
    }
    assign(root, keyPath(key), value, key);
  }
  return root;
}

function keyPath(key: string): string[] {
  const open = key.indexOf('[');
  if (open === -1) return [key];
  const rest = key.slice(open);
  if (open === 0 || !/^(\[[^[\]]*\])+$/.test(rest)) {
    throw badRequest(`Invalid parameter name: ${key}`, { param: key });
  }
  const path = [key.slice(0, open), ...rest.slice(1, -1).split('][')];
  if (path.length > FORM_DEPTH_MAX) {
    throw badRequest(`Parameter nested too deeply: ${key}`, { param: key });
  }
  return path;
}

function assign(root: FormObject, path: readonly string[], value: string, key: string): void {
  let node = root;
  path.forEach((segment, depth) => {
    const name = segment === '' ? String(Object.keys(node).length) : segment;
    const present = node[name];
    if (depth === path.length - 1) {
      if (present !== undefined && typeof present !== 'string') {
        throw badRequest(`Parameter given as a value and as a group: ${key}`, { param: key });
      }
      node[name] = value;
      return;
    }
    if (present === undefined) node[name] = emptyForm();
    const child = node[name];
    if (child === undefined || typeof child === 'string') {
      throw badRequest(`Parameter given as a value and as a group: ${key}`, { param: key });
    }
    node = child;
  });
}

/** One spelling per meaning, so that idempotency keys compare parameters and not their order. */
export function canonicalForm(form: FormObject): string {
  return JSON.stringify(form, (_key, value: unknown) =>
    typeof value === 'object' && value !== null
      ? Object.fromEntries(Object.entries(value).sort(([left], [right]) => (left < right ? -1 : 1)))
      : value,
  );
}
