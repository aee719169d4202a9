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
import { costOf } from '../costOf.ts';
import { defineRoute } from '../defineRoute.ts';
import { exportCsv } from '../exportCsv.ts';
import { mutateMoney } from '../mutateMoney.ts';

export const creditRoutes = [
  defineRoute(checkCredits, async (deps, { body }) => ({
    body: await deps.credits.check({ userId: body.user_id, amount: costOf(deps, body) }),
  })),

  defineRoute(consumeCredits, (deps, { body, headers, query }) =>
    mutateMoney(deps, query, ({ credits }) =>
      credits.consume({
        userId: body.user_id,
        amount: costOf(deps, body),
        idempotencyKey: headers['idempotency-key'],
        description: body.description,
        metadata: body.metadata,
      }),
    ),
  ),

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
