import {
  checkCredits,
  consumeCredits,
  exportTransactions,
  exportUserTransactions,
  getCredits,
  getUserCredits,
  listTransactions,
  listUserTransactions,
} from '../contract/credits.ts';
import type { HandlerInput } from '../defineRoute.ts';
import { defineRoute } from '../defineRoute.ts';
import type { AppDeps } from '../deps.ts';
import { exportCsv } from '../exportCsv.ts';

/** The price of an operation in credits. Errors: `invalid_request` for an unknown feature. */
function costOf({ catalogue }: AppDeps, body: HandlerInput<typeof checkCredits>['body']): number {
  // The schema has seen to it that exactly one of the two is there.
  return body.amount ?? catalogue.cost(body.feature ?? '', body.units ?? 1);
}

export const creditRoutes = [
  defineRoute(checkCredits, async (deps, { body }) => ({
    body: await deps.credits.check({ userId: body.user_id, amount: costOf(deps, body) }),
  })),

  defineRoute(consumeCredits, async (deps, { body, headers }) => {
    const { answer, replayed } = await deps.credits.consume({
      userId: body.user_id,
      amount: costOf(deps, body),
      idempotencyKey: headers['idempotency-key'],
      description: body.description,
      metadata: body.metadata,
    });
    return { body: answer, headers: replayed ? { 'Idempotency-Replayed': 'true' } : {} };
  }),

  defineRoute(getCredits, async ({ credits }, { caller }) => ({
    body: await credits.balance(caller.userId),
  })),

  defineRoute(listTransactions, async ({ credits }, { caller, query }) => ({
    body: await credits.transactions({ userId: caller.userId, ...query }),
  })),

  defineRoute(exportTransactions, async ({ credits }, { caller, query }) => ({
    stream: await exportCsv(credits, { userId: caller.userId, ...query }),
    headers: { 'Content-Disposition': 'attachment; filename="credit-transactions.csv"' },
  })),

  defineRoute(getUserCredits, async ({ credits }, { params }) => ({
    body: await credits.balance(params.userId),
  })),

  defineRoute(exportUserTransactions, async ({ credits }, { params, query }) => ({
    stream: await exportCsv(credits, { userId: params.userId, ...query }),
    headers: { 'Content-Disposition': 'attachment; filename="credit-transactions.csv"' },
  })),

  defineRoute(listUserTransactions, async ({ credits }, { params, query }) => ({
    body: await credits.transactions({ userId: params.userId, ...query }),
  })),
];
