import type { JsonSchema, OpenApiDocument, OpenApiOperation } from '../openapi.ts';
import { type Html, html, page, prose } from './html.ts';

/** Levels of nested objects shown as rows; the document itself has them all. */
const ROW_DEPTH_MAX = 3;

const DOORS: Record<string, string> = {
  userToken: 'user token',
  gateway: 'signed gateway headers',
  serviceKey: 'service key',
  adminKey: 'admin key',
  cronSecret: 'cron secret',
  stripeSignature: 'Stripe signature',
};

function resolve(schema: JsonSchema, document: OpenApiDocument): JsonSchema {
  const name = schema.$ref?.replace('#/components/schemas/', '');
  if (name === undefined) return schema;
  return { ...document.components.schemas[name], ...(schema.description ? schema : {}) };
}

function typeOf(schema: JsonSchema, document: OpenApiDocument): string {
  const { type, anyOf, format, items, enum: values, const: only, $ref } = schema;
  if ($ref !== undefined) return typeOf(resolve({ $ref }, document), document);
  if (values !== undefined) return values.map((value) => JSON.stringify(value)).join(' | ');
  if (only !== undefined) return JSON.stringify(only);
  if (anyOf !== undefined) return anyOf.map((one) => typeOf(one, document)).join(' | ');
  if (type === 'array') return `${items ? typeOf(items, document) : 'any'}[]`;
  if (format === 'date-time') return 'time';
  return Array.isArray(type) ? type.join(' | ') : (type ?? 'any');
}

/** The object whose members are worth listing under a field, if it has one. */
function membersOf(schema: JsonSchema, document: OpenApiDocument): JsonSchema | null {
  const own = resolve(schema, document);
  if (own.properties !== undefined) return own;
  if (own.items !== undefined) return membersOf(own.items, document);
  for (const one of own.anyOf ?? []) {
    const members = membersOf(one, document);
    if (members !== null) return members;
  }
  return null;
}

const isList = (schema: JsonSchema, document: OpenApiDocument) =>
  resolve(schema, document).items !== undefined;

function boundsOf({ minimum, maximum, default: standard }: JsonSchema): string {
  const parts = [];
  const upper = maximum === undefined || maximum >= Number.MAX_SAFE_INTEGER ? null : maximum;
  const lower = minimum === undefined || minimum <= Number.MIN_SAFE_INTEGER ? null : minimum;
  if (lower !== null && upper !== null) parts.push(`${lower} to ${upper}`);
  else if (lower !== null) parts.push(`from ${lower}`);
  else if (upper !== null) parts.push(`up to ${upper}`);
  if (standard !== undefined) parts.push(`default ${JSON.stringify(standard)}`);
  return parts.join(', ');
}

function rows(schema: JsonSchema, document: OpenApiDocument, prefix = '', depth = 0): Html[] {
  const members = membersOf(schema, document);
  if (members?.properties === undefined || depth >= ROW_DEPTH_MAX) return [];
  return Object.entries(members.properties).flatMap(([name, member]) => {
    const path = `${prefix}${name}`;
    const required = members.required?.includes(name) === true;
    const notes = [boundsOf(member), resolve(member, document).description ?? ''].filter(Boolean);
    return [
      html`<tr><td><code>${path}</code>${required ? '' : html` <span class="soft">optional</span>`}</td>
<td class="soft">${typeOf(member, document)}</td><td>${prose(notes.join('. '))}</td></tr>`,
      ...rows(member, document, `${path}${isList(member, document) ? '[]' : ''}.`, depth + 1),
    ];
  });
}

function fieldTable(
  caption: string,
  summary: string,
  schema: JsonSchema,
  document: OpenApiDocument,
): Html {
  const lines = rows(schema, document);
  if (lines.length === 0) return html``;
  return html`<h4>${caption}</h4>
<div class="scroll" tabindex="0" role="region" aria-label="${caption} of ${summary}"><table>
<tr><th scope="col">Field</th><th scope="col">Type</th><th scope="col">Meaning</th></tr>
${lines}</table></div>`;
}

function parameterTable(
  { parameters, summary }: OpenApiOperation,
  document: OpenApiDocument,
): Html {
  if (parameters.length === 0) return html``;
  return html`<h4>Parameters</h4>
<div class="scroll" tabindex="0" role="region" aria-label="Parameters of ${summary}"><table>
<tr><th scope="col">Name</th><th scope="col">Type</th><th scope="col">Meaning</th></tr>
${parameters.map(
  ({ name, in: place, required, description, schema }) => html`<tr>
<td><code>${name}</code> <span class="soft">${place}${required ? '' : ', optional'}</span></td>
<td class="soft">${typeOf(schema, document)}</td>
<td>${prose([boundsOf(schema), description ?? ''].filter(Boolean).join('. '))}</td></tr>`,
)}</table></div>`;
}

function doorOf({ security }: OpenApiOperation): string {
  if (security.length === 0) return 'open to all';
  const doors = security.map((one) => Object.keys(one)[0]);
  const words = doors.map((door) => (door === undefined ? 'nobody' : (DOORS[door] ?? door)));
  return words.join(' or ');
}

function example(
  method: string,
  path: string,
  { security, parameters, requestBody }: OpenApiOperation,
) {
  const door = security.flatMap(Object.keys)[0];
  const lines = [`curl ${method === 'get' ? '' : `-X ${method.toUpperCase()} `}"$PURSER${path}"`];
  if (door !== undefined && door !== 'stripeSignature') {
    const variable = {
      serviceKey: 'SERVICE_KEY',
      adminKey: 'ADMIN_KEY',
      cronSecret: 'CRON_SECRET',
    };
    lines.push(
      `  -H "Authorization: Bearer $${variable[door as keyof typeof variable] ?? 'TOKEN'}"`,
    );
  }
  if (parameters.some(({ name, required }) => name === 'idempotency-key' && required)) {
    lines.push('  -H "Idempotency-Key: $(uuidgen)"');
  }
  if (requestBody?.required) {
    lines.push(`  -H "Content-Type: application/json" -d '{...}'`);
  }
  return html`<pre tabindex="0"><code>${lines.join(' \\\n')}</code></pre>`;
}

function route(
  path: string,
  method: string,
  operation: OpenApiOperation,
  document: OpenApiDocument,
): Html {
  const { operationId, summary, description, requestBody, responses } = operation;
  const input = requestBody?.content['application/json']?.schema;
  const [success, ...others] = Object.entries(responses);
  const output = success?.[1].content?.['application/json']?.schema;
  return html`<section class="route" id="${operationId}" aria-labelledby="${operationId}-title">
<h3 id="${operationId}-title">${summary}</h3>
<div class="line"><span class="method ${method}">${method.toUpperCase()}</span>
<span class="path">${path}</span><span class="door">${doorOf(operation)}</span></div>
${description ? html`<p>${prose(description)}</p>` : ''}
${operationId === 'receiveStripeWebhook' ? '' : example(method, path, operation)}
${parameterTable(operation, document)}
${input ? fieldTable('Request', summary, input, document) : ''}
${output ? fieldTable(`Answer ${success?.[0]}`, summary, output, document) : ''}
<details><summary>Other answers</summary><div class="scroll"><table>
${others.map(
  ([status, answer]) =>
    html`<tr><td class="status">${status}</td><td>${prose(answer.description)}</td></tr>`,
)}</table></div></details>
</section>`;
}

/** The reference of the API for people, rendered from the OpenAPI document alone. */
export function docsPage(document: OpenApiDocument): string {
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
  );
  const groups = document.tags.map(({ name }) => ({
    name,
    members: operations.filter(({ operation }) => operation.tags.includes(name)),
  }));
  return page({
    title: 'Purser API',
    wide: true,
    body: html`<div class="layout">
<nav class="index" aria-label="Routes"><a href="/api/openapi.json">OpenAPI document</a>
${groups.map(
  ({ name, members }) =>
    html`<strong>${name}</strong><ul>${members.map(
      ({ operation }) =>
        html`<li><a href="#${operation.operationId}">${operation.summary}</a></li>`,
    )}</ul>`,
)}</nav>
<main><h1>Purser API</h1><p class="lead">${document.info.description}</p>
<p>Errors are <code>application/problem+json</code> with a stable <code>code</code>; <code>type</code> leads to a page that says what to do. Answers with <code>Retry-After</code> may be repeated.</p>
<pre tabindex="0"><code>PURSER=${document.servers[0]?.url ?? ''}</code></pre>
${groups.map(
  ({ name, members }) =>
    html`<h2>${name}</h2>${members.map(({ path, method, operation }) =>
      route(path, method, operation, document),
    )}`,
)}</main></div>`,
  });
}
