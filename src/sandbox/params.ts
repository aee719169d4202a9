import { ApiError, badRequest, notSimulated } from './errors.ts';
import type { FormObject, FormValue } from './form.ts';

/**
 * Declarations of request parameters. Each parses the form value it is given, or throws the error
 * Stripe would answer, and describes itself so that a test can compare the table of a route with
 * Stripe's own schema.
 */
export interface Param<T, Required extends boolean = boolean> {
  readonly kind: 'value' | 'list' | 'object' | 'map' | 'refused';
  readonly required: Required;
  readonly shape?: Shape;
  readonly item?: Param<unknown>;
  readonly choices?: readonly string[];
  parse(raw: FormValue, path: string): T;
}
export type Shape = { readonly [name: string]: Param<unknown> };
export type Parsed<S extends Shape> = {
  [K in keyof S]: S[K] extends Param<infer T, infer R>
    ? true extends R
      ? false extends R
        ? T | undefined
        : T
      : T | undefined
    : never;
};

type Optional<T> = Param<T, false>;

function value<T>(parse: (text: string, path: string) => T, choices?: readonly string[]) {
  const param: Optional<T> = {
    kind: 'value',
    required: false,
    ...(choices ? { choices } : {}),
    parse(raw, path) {
      if (typeof raw !== 'string') throw badRequest(`Invalid string: ${path}`, { param: path });
      return parse(raw, path);
    },
  };
  return param;
}

export function required<T>(param: Param<T>): Param<T, true> {
  return { ...param, required: true };
}

function refuseEmpty(text: string, path: string): void {
  if (text !== '') return;
  throw badRequest(
    `You passed an empty string for '${path}', which cannot be unset. Remove it from the request or give it a value.`,
    { param: path, code: 'parameter_invalid_empty' },
  );
}

const TEXT_MAX = 5_000;

export function text(max = TEXT_MAX): Optional<string> {
  return value((raw, path) => {
    refuseEmpty(raw, path);
    if (raw.length > max) {
      throw badRequest(`Invalid string: ${path} must be at most ${max} characters`, {
        param: path,
        code: 'parameter_invalid_string_length',
      });
    }
    return raw;
  });
}

export function integer(bounds: { min?: number; max?: number } = {}): Optional<number> {
  const { min = Number.MIN_SAFE_INTEGER, max = Number.MAX_SAFE_INTEGER } = bounds;
  return value((raw, path) => {
    refuseEmpty(raw, path);
    if (!/^-?\d{1,16}$/.test(raw)) {
      throw badRequest(`Invalid integer: ${raw}`, {
        param: path,
        code: 'parameter_invalid_integer',
      });
    }
    const parsed = Number(raw);
    if (parsed < min) {
      const wording =
        min === 0 ? 'Invalid non-negative integer' : `This value must be at least ${min}`;
      throw badRequest(wording, { param: path, code: 'parameter_invalid_integer' });
    }
    if (parsed > max) {
      throw badRequest(`This value must be at most ${max}`, {
        param: path,
        code: 'parameter_invalid_integer',
      });
    }
    return parsed;
  });
}

/** A decimal with at most 12 places, kept as text: cents may have fractions, floats may not. */
export const decimal: Optional<string> = value((raw, path) => {
  if (!/^\d{1,12}(\.\d{1,12})?$/.test(raw)) {
    throw badRequest(`Invalid decimal: ${raw}`, { param: path, code: 'parameter_invalid_decimal' });
  }
  return raw;
});

/** Above 0 and at most 100, with at most two places. */
export const percent: Optional<number> = value((raw, path) => {
  const parsed = /^\d{1,3}(\.\d{1,2})?$/.test(raw) ? Number(raw) : 0;
  if (parsed <= 0 || parsed > 100) {
    throw badRequest(`Invalid ${path}: must be greater than 0 and at most 100`, { param: path });
  }
  return parsed;
});

export const flag: Optional<boolean> = value((raw, path) => {
  if (raw === 'true' || raw === 'false') return raw === 'true';
  throw badRequest(`Invalid boolean: ${raw}`, { param: path, code: 'parameter_invalid_boolean' });
});

export function choice<const C extends string>(...choices: C[]): Optional<C> {
  return value((raw, path) => {
    const found = choices.find((candidate) => candidate === raw);
    if (found) return found;
    const listed = new Intl.ListFormat('en', { type: 'disjunction' }).format(choices);
    throw badRequest(`Invalid ${path}: must be one of ${listed}`, { param: path });
  }, choices);
}

/** A time in seconds, or one of the words. */
export function timeOr<const C extends string>(...words: C[]): Optional<number | C> {
  const time = integer({ min: 0 });
  return value((raw, path) => words.find((word) => word === raw) ?? time.parse(raw, path));
}

export const url: Optional<string> = value((raw, path) => {
  refuseEmpty(raw, path);
  // `{CHECKOUT_SESSION_ID}` is legal in return URLs and is filled in at redirect time.
  const parsed = URL.canParse(raw) ? new URL(raw) : null;
  if (!parsed || !/^https?:$/.test(parsed.protocol) || raw.length > TEXT_MAX) {
    throw badRequest('Not a valid URL', { param: path, code: 'url_invalid' });
  }
  return raw;
});

export const email: Optional<string> = value((raw, path) => {
  refuseEmpty(raw, path);
  if (!/^[^\s@]+@[^\s@]+\.[^\s@]+$/.test(raw) || raw.length > 512) {
    throw badRequest(`Invalid email address: ${raw}`, { param: path, code: 'email_invalid' });
  }
  return raw;
});

const CURRENCIES = new Set(Intl.supportedValuesOf('currency').map((code) => code.toLowerCase()));

export const currency: Optional<string> = value((raw, path) => {
  const lower = raw.toLowerCase();
  if (!CURRENCIES.has(lower)) {
    throw badRequest(`Invalid currency: ${raw}. Use a three-letter ISO 4217 code.`, {
      param: path,
      code: 'parameter_invalid_enum',
    });
  }
  return lower;
});

/** The empty string unsets the field, as in Stripe's update calls. */
export function clearable<T>(param: Param<T>): Optional<T | null> {
  return {
    ...param,
    required: false,
    parse: (raw, path) => (raw === '' ? null : param.parse(raw, path)),
  };
}

export function list<T>(item: Param<T>, max = 100): Optional<T[]> {
  return {
    kind: 'list',
    required: false,
    item,
    parse(raw, path) {
      if (typeof raw === 'string') {
        if (raw === '') return [];
        throw badRequest('Invalid array', { param: path });
      }
      const keys = Object.keys(raw);
      if (keys.some((key) => !/^\d{1,4}$/.test(key))) {
        throw badRequest('Invalid array', { param: path });
      }
      if (keys.length > max) {
        throw badRequest(`Too many items in ${path}: at most ${max}`, { param: path });
      }
      return keys
        .sort((left, right) => Number(left) - Number(right))
        .map((key) => item.parse(raw[key] ?? '', `${path}[${key}]`));
    },
  };
}

export function object<S extends Shape>(shape: S): Optional<Parsed<S>> {
  return {
    kind: 'object',
    required: false,
    shape,
    parse(raw, path) {
      if (typeof raw === 'string') throw badRequest('Invalid object', { param: path });
      return parseShape(shape, raw, path);
    },
  };
}

export function map<T>(item: Param<T>): Optional<Record<string, T>> {
  return {
    kind: 'map',
    required: false,
    item,
    parse(raw, path) {
      if (typeof raw === 'string') throw badRequest('Invalid object', { param: path });
      return Object.fromEntries(
        Object.entries(raw).map(([key, child]) => [key, item.parse(child, `${path}[${key}]`)]),
      );
    },
  };
}

const METADATA_KEYS_MAX = 50;
const METADATA_KEY_LENGTH_MAX = 40;
const METADATA_VALUE_LENGTH_MAX = 500;

/** Changes to metadata: `''` removes a key. `null` (sent as an empty string) removes all. */
export type MetadataChange = Record<string, string> | null;

export const metadata: Optional<MetadataChange> = {
  kind: 'value',
  required: false,
  parse(raw, path) {
    if (typeof raw === 'string') {
      if (raw === '') return null;
      throw badRequest('Invalid hash', { param: path });
    }
    const entries = Object.entries(raw);
    if (entries.length > METADATA_KEYS_MAX) {
      throw badRequest(`Metadata can have at most ${METADATA_KEYS_MAX} keys.`, { param: path });
    }
    return Object.fromEntries(
      entries.map(([key, item]) => {
        const at = { param: `${path}[${key}]` };
        if (typeof item !== 'string') throw badRequest('Metadata values must be strings.', at);
        if (key.length > METADATA_KEY_LENGTH_MAX) {
          throw badRequest(
            `Metadata keys must be at most ${METADATA_KEY_LENGTH_MAX} characters.`,
            at,
          );
        }
        if (item.length > METADATA_VALUE_LENGTH_MAX) {
          throw badRequest(
            `Metadata values must be at most ${METADATA_VALUE_LENGTH_MAX} characters.`,
            at,
          );
        }
        return [key, item];
      }),
    );
  },
};

/** A timestamp, or a range of them: `created=5` or `created[gte]=5`. Seconds. */
export interface Range {
  readonly gt?: number | undefined;
  readonly gte?: number | undefined;
  readonly lt?: number | undefined;
  readonly lte?: number | undefined;
}
const rangeShape = { gt: integer(), gte: integer(), lt: integer(), lte: integer() };

export const range: Optional<Range> = {
  kind: 'value',
  required: false,
  parse(raw, path) {
    if (typeof raw !== 'string') return parseShape(rangeShape, raw, path);
    const exact = integer().parse(raw, path);
    return { gte: exact, lte: exact };
  },
};

/** A parameter Stripe accepts and the sandbox would have to ignore: refused, so no test passes by luck. */
export function refused(hint?: string): Optional<never> {
  return {
    kind: 'refused',
    required: false,
    parse(_raw, path) {
      throw notSimulated(path, hint);
    },
  };
}

/** Accepts one value only, because the sandbox has one behaviour; any other is named as such. */
export function only<const C extends string>(accepted: C, hint: string): Optional<C> {
  return value(
    (raw, path) => {
      if (raw === accepted) return accepted;
      throw notSimulated(`${path}=${raw}`, hint);
    },
    [accepted],
  );
}

/** @throws ApiError 400: unknown parameters first (all of them), then missing ones, then values. */
export function parseShape<S extends Shape>(shape: S, raw: FormObject, path = ''): Parsed<S> {
  const at = (name: string) => (path === '' ? name : `${path}[${name}]`);
  const unknown = Object.keys(raw).filter((name) => !Object.hasOwn(shape, name));
  const [first] = unknown;
  if (first !== undefined) {
    throw new ApiError(400, {
      type: 'invalid_request_error',
      code: 'parameter_unknown',
      message: `Received unknown parameter${unknown.length > 1 ? 's' : ''}: ${unknown.map(at).join(', ')}`,
      param: at(first),
    });
  }
  const parsed: Record<string, unknown> = {};
  for (const [name, param] of Object.entries(shape)) {
    const given = raw[name];
    if (given !== undefined) {
      parsed[name] = param.parse(given, at(name));
    } else if (param.required) {
      throw badRequest(`Missing required param: ${at(name)}.`, {
        param: at(name),
        code: 'parameter_missing',
      });
    }
  }
  return parsed as Parsed<S>;
}

export const PAGE_DEFAULT = 10;
const PAGE_MAX = 100;
const EXPAND_MAX = 20;

export const expand = list(text(200), EXPAND_MAX);
export const paging = {
  limit: integer({ min: 1, max: PAGE_MAX }),
  starting_after: text(),
  ending_before: text(),
  expand,
};
