import type { Rule } from '../rule.ts';
import { accessRule, migrationsRule, usersRule } from './database.ts';
import { endpointEventsRule, endpointRule } from './endpoint.ts';
import { clockRule, runtimeRule } from './machine.ts';
import { modeRule, portalRule, pricesRule } from './prices.ts';
import { redisRule, settingsRule, supabaseKeyRule } from './settings.ts';
import { rawBodyRule, webhookSecretRule } from './webhook.ts';

/** Every rule, in the order of the report: what a later one needs is looked at before it. */
export const RULES: readonly Rule[] = [
  runtimeRule,
  settingsRule,
  supabaseKeyRule,
  migrationsRule,
  accessRule,
  usersRule,
  redisRule,
  modeRule,
  pricesRule,
  portalRule,
  endpointRule,
  endpointEventsRule,
  webhookSecretRule,
  rawBodyRule,
  clockRule,
];
