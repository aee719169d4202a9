/** Plain JSON values: everything the store keeps and the API answers is made of these. */
export type Json = string | number | boolean | null | Json[] | JsonObject;
export type JsonObject = { [key: string]: Json };

/** An API object as it goes over the wire. */
export type View = { id: string; object: string };

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
