import { readFileSync } from 'node:fs';
import { expect, it } from '@jest/globals';
import { EVENT_TYPES } from '../../src/sandbox/eventTypes.ts';
import { HANDLERS } from '../../src/webhook/dispatch.ts';
import { SUBSCRIBED_TYPES } from '../../src/webhook/subscribedTypes.ts';

const handled = Object.keys(HANDLERS);
const subscribed: readonly string[] = SUBSCRIBED_TYPES;

it('every subscribed type has a handler, and every handler is subscribed to', () => {
  expect(subscribed.filter((type) => !handled.includes(type))).toEqual([]);
  expect(handled.filter((type) => !subscribed.includes(type))).toEqual([]);
});

it('subscribes to each type once, and to types Stripe knows', () => {
  expect(new Set(subscribed).size).toBe(subscribed.length);
  expect(subscribed.filter((type) => !EVENT_TYPES.has(type))).toEqual([]);
});

it('docs/events.md says in the same order what each type leads to', () => {
  const docs = readFileSync(new URL('../../docs/events.md', import.meta.url), 'utf8');
  const table = docs.slice(0, docs.indexOf('\n## '));
  const rows = [...table.matchAll(/^\| `([\w.]+)` +\| (.+?) *\|$/gm)];
  expect(rows.map(([, type]) => type)).toEqual(subscribed);
  expect(rows.every(([, , effect]) => effect !== undefined && effect.length > 3)).toBe(true);
});

it('docs/stripe-events.md has them all to paste', () => {
  const docs = readFileSync(new URL('../../docs/stripe-events.md', import.meta.url), 'utf8');
  const [, list = ''] = /^```\n([\s\S]*?)\n```$/m.exec(docs) ?? [];
  expect(list.split('\n')).toEqual(subscribed);
});
