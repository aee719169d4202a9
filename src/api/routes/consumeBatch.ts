import { PurserError } from '../../core/errors.ts';
import { consumeCreditsBatch } from '../contract/consumeBatch.ts';
import { costOf, type Priced } from '../costOf.ts';
import { defineRoute } from '../defineRoute.ts';
import type { AppDeps } from '../deps.ts';
import { mutateMoney } from '../mutateMoney.ts';
import { type FieldError, invalidRequest } from '../problems.ts';

/** Prices all operations, or names each that has none. Errors: `invalid_request`. */
function costsOf(deps: AppDeps, operations: Priced[]): number[] {
  const errors: FieldError[] = [];
  const costs = operations.map((operation, index) => {
    try {
      return costOf(deps, operation);
    } catch (error) {
      if (!(error instanceof PurserError) || error.code !== 'invalid_request') throw error;
      const fields = (error.extensions.errors ?? []) as FieldError[];
      for (const { path, message } of fields) {
        errors.push({ path: `operations.${index}.${path}`, message });
      }
      if (fields.length === 0) {
        errors.push({ path: `operations.${index}`, message: error.message });
      }
      return 0;
    }
  });
  if (errors.length > 0) throw invalidRequest(errors);
  return costs;
}

export const consumeBatchRoutes = [
  defineRoute(consumeCreditsBatch, async (deps, { body: { operations }, query, response }) => {
    const costs = costsOf(deps, operations);
    const spends = operations.map((operation, index) => ({
      userId: operation.user_id,
      amount: costs[index] ?? 0,
      idempotencyKey: operation.idempotency_key,
      description: operation.description,
      metadata: operation.metadata,
    }));
    return mutateMoney(deps, query, async ({ credits }) => {
      const results = await credits.consumeBatch(spends);
      response.locals.replays = results.filter(({ outcome }) => outcome === 'replayed').length;
      return { answer: { results } };
    });
  }),
];
