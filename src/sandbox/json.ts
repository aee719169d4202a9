/** Plain JSON values: everything the store keeps and the API answers is made of these. */
export type Json = string | number | boolean | null | Json[] | JsonObject;
export type JsonObject = { [key: string]: Json };

/** An API object as it goes over the wire. */
export type View = { id: string; object: string };

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A deep copy; several times faster than structuredClone, which plain JSON does not need. */
export function copyJson<T>(value: T): T {
  if (Array.isArray(value)) return value.map(copyJson) as T;
  if (typeof value !== 'object' || value === null) return value;
  const copy: Record<string, unknown> = {};
  for (const key of Object.keys(value)) {
    const child = copyJson(value[key as keyof T]);
    // Somebody's metadata may have this key, and assigning it would set the prototype.
    if (key === '__proto__') Object.defineProperty(copy, key, { value: child, enumerable: true });
    else copy[key] = child;
  }
  return copy as T;
}
