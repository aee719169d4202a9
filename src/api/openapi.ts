import { z } from 'zod';
import { ERRORS, type ErrorCode } from '../core/errors.ts';
import type { RouteAuth, RouteContract } from './contract/declareRoute.ts';

/** A JSON Schema, as far as we look into it. */
export interface JsonSchema {
  $ref?: string;
  type?: string | string[];
  description?: string;
  properties?: Record<string, JsonSchema>;
  required?: string[];
  items?: JsonSchema;
  anyOf?: JsonSchema[];
  enum?: unknown[];
  const?: unknown;
  default?: unknown;
  format?: string;
  minimum?: number;
  maximum?: number;
  [member: string]: unknown;
}

interface MediaContent {
  schema?: JsonSchema;
}

export interface OpenApiParameter {
  name: string;
  in: 'path' | 'query' | 'header';
  required: boolean;
  description?: string;
  schema: JsonSchema;
}

export interface OpenApiOperation {
  operationId: string;
  tags: string[];
  summary: string;
  description?: string;
  security: Record<string, string[]>[];
  parameters: OpenApiParameter[];
  requestBody?: { required: boolean; content: Record<string, MediaContent> };
  responses: Record<
    string,
    {
      description: string;
      headers?: Record<string, { description: string; schema: JsonSchema }>;
      content?: Record<string, MediaContent>;
    }
  >;
}

export interface OpenApiDocument {
  openapi: '3.1.0';
  info: { title: string; version: string; description: string };
  servers: { url: string }[];
  tags: { name: string }[];
  paths: Record<string, Record<string, OpenApiOperation>>;
  components: {
    schemas: Record<string, JsonSchema>;
    securitySchemes: Record<string, Record<string, string>>;
  };
}

const SECURITY: Record<RouteAuth, Record<string, string[]>[]> = {
  public: [],
  user: [{ userToken: [] }, { gateway: [] }],
  'optional-user': [{}, { userToken: [] }, { gateway: [] }],
  service: [{ serviceKey: [] }],
  admin: [{ adminKey: [] }, { userToken: [] }],
  cron: [{ cronSecret: [] }],
  metrics: [{ metricsKey: [] }, { adminKey: [] }, { serviceKey: [] }, { userToken: [] }],
  webhook: [{ stripeSignature: [] }],
};

const SECURITY_SCHEMES = {
  userToken: {
    type: 'http',
    scheme: 'bearer',
    bearerFormat: 'JWT',
    description: 'The access token of a user (Supabase Auth, or the issuer that is set).',
  },
  gateway: {
    type: 'apiKey',
    in: 'header',
    name: 'x-user-signature',
    description:
      'A user vouched for by a gateway: x-user-id, x-user-email, x-user-timestamp (unix seconds, within 60 s), and here the hex HMAC-SHA256 of id, email, timestamp, METHOD and request target, joined by line feeds.',
  },
  serviceKey: { type: 'http', scheme: 'bearer', description: 'PURSER_SERVICE_KEY' },
  metricsKey: { type: 'http', scheme: 'bearer', description: 'PURSER_METRICS_KEY' },
  adminKey: { type: 'http', scheme: 'bearer', description: 'PURSER_ADMIN_KEY' },
  cronSecret: { type: 'http', scheme: 'bearer', description: 'CRON_SECRET' },
  stripeSignature: {
    type: 'apiKey',
    in: 'header',
    name: 'stripe-signature',
    description: 'Stripe’s signature over the raw body.',
  },
};

export const problemSchema = z
  .object({
    type: z.string().meta({ format: 'uri' }),
    title: z.string(),
    status: z.int(),
    code: z.enum(Object.keys(ERRORS) as [ErrorCode, ...ErrorCode[]]),
    detail: z.string().optional().meta({ description: 'What is wrong, and what to do.' }),
    instance: z.string(),
    request_id: z.string(),
    errors: z
      .array(z.object({ path: z.string(), message: z.string() }))
      .optional()
      .meta({ description: 'With invalid_request: each field that is wrong.' }),
  })
  .meta({ id: 'Problem', description: 'RFC 9457; codes may add members of their own.' });

/** Collects named schemas once and hands out references to them. */
function createSchemaBook() {
  const schemas: Record<string, JsonSchema> = {};

  function rehome(text: string): JsonSchema {
    return JSON.parse(text.replaceAll('"#/$defs/', '"#/components/schemas/')) as JsonSchema;
  }

  return {
    schemas,
    add(schema: z.ZodType, io: 'input' | 'output'): JsonSchema {
      const whole = z.toJSONSchema(schema, {
        io,
        override: ({ jsonSchema }) => {
          // Answers may grow; a client that refuses new fields would break with every release.
          if (io === 'output') delete jsonSchema.additionalProperties;
        },
      });
      const { $schema: _, $defs = {}, ...rest } = rehome(JSON.stringify(whole));
      Object.assign(schemas, $defs);
      return rest;
    },
  };
}

type SchemaBook = ReturnType<typeof createSchemaBook>;

function toParameters(contract: RouteContract, book: SchemaBook): OpenApiParameter[] {
  const places = { params: 'path', query: 'query', headers: 'header' } as const;
  return (['params', 'query', 'headers'] as const).flatMap((part) => {
    const schema = contract[part];
    if (schema === undefined) return [];
    const { properties = {}, required = [] } = book.add(schema, 'input');
    return Object.entries(properties).map(([name, { description, ...property }]) => ({
      name,
      in: places[part],
      required: part === 'params' || required.includes(name),
      ...(description === undefined ? {} : { description }),
      schema: property,
    }));
  });
}

/** Codes any route of that kind can meet, beside those it lists itself. */
function errorsOf({ auth, errors, params, query, body, headers, tag }: RouteContract): ErrorCode[] {
  const validated = params ?? query ?? body ?? headers;
  const codes: ErrorCode[] = [...errors];
  if (validated !== undefined) codes.push('invalid_request');
  if (auth !== 'public' && auth !== 'webhook') codes.push('unauthenticated', 'forbidden');
  if (body !== undefined) codes.push('payload_too_large', 'unsupported_media_type');
  if (auth !== 'webhook' && tag !== 'Health') codes.push('rate_limited');
  return [...new Set([...codes, 'internal' as const])];
}

function toResponses(contract: RouteContract, book: SchemaBook): OpenApiOperation['responses'] {
  const responses: OpenApiOperation['responses'] = {};
  for (const [status, answer] of Object.entries(contract.responses)) {
    const contentType = answer.contentType ?? 'application/json';
    const schema = answer.body === undefined ? null : book.add(answer.body, 'output');
    const hasContent = schema !== null || answer.contentType !== undefined;
    responses[status] = {
      description: answer.description,
      ...(answer.headers === undefined
        ? {}
        : {
            headers: Object.fromEntries(
              Object.entries(answer.headers).map(([name, description]) => [
                name,
                { description, schema: { type: 'string' } },
              ]),
            ),
          }),
      ...(hasContent
        ? { content: { [contentType]: { schema: schema ?? { type: 'string' } } } }
        : {}),
    };
  }
  const problem = { $ref: '#/components/schemas/Problem' };
  const byStatus = new Map<number, ErrorCode[]>();
  for (const code of errorsOf(contract)) {
    const { status } = ERRORS[code];
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  for (const [status, codes] of byStatus) {
    responses[status] = {
      description: codes.map((code) => `\`${code}\`: ${ERRORS[code].title}.`).join(' '),
      content: { 'application/problem+json': { schema: problem } },
    };
  }
  return responses;
}

function toOperation(contract: RouteContract, book: SchemaBook): OpenApiOperation {
  const { body } = contract;
  const requestBody =
    contract.auth === 'webhook'
      ? { required: true, content: { 'application/json': { schema: { type: 'object' } } } }
      : body !== undefined
        ? {
            required: contract.bodyOptional !== true,
            content: { 'application/json': { schema: book.add(body, 'input') } },
          }
        : null;
  return {
    operationId: contract.id,
    tags: [contract.tag],
    summary: contract.summary,
    ...(contract.description === undefined ? {} : { description: contract.description }),
    security: SECURITY[contract.auth],
    parameters: toParameters(contract, book),
    ...(requestBody === null ? {} : { requestBody }),
    responses: toResponses(contract, book),
  };
}

/** The OpenAPI 3.1 document of the given routes: all of them, nothing written by hand. */
export function createOpenApiDocument(
  contracts: readonly RouteContract[],
  publicUrl: string,
): OpenApiDocument {
  const book = createSchemaBook();
  book.add(problemSchema, 'output');
  const paths: OpenApiDocument['paths'] = {};
  for (const contract of contracts) {
    const path = contract.path.replace(/:(\w+)/g, '{$1}');
    paths[path] = { ...paths[path], [contract.method]: toOperation(contract, book) };
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Purser',
      version: '1',
      description:
        'Prepaid credits on Stripe: every paid object is credited exactly once, and every credit can be explained. Credits are whole numbers, money is in the smallest unit of its currency, times are ISO 8601 in UTC.',
    },
    servers: [{ url: publicUrl }],
    tags: [...new Set(contracts.map(({ tag }) => tag))].map((name) => ({ name })),
    paths,
    components: { schemas: book.schemas, securitySchemes: SECURITY_SCHEMES },
  };
}
