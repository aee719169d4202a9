import {
  explainCredits,
  explainUserCredits,
  exportStatementCsv,
  exportUserStatement,
  getStatement,
  getUserStatement,
} from '../contract/explain.ts';
import { defineRoute } from '../defineRoute.ts';
import { exportStatement } from '../exportStatement.ts';

const attachment = { 'Content-Disposition': 'attachment; filename="credit-statement.csv"' };

export const explainRoutes = [
  defineRoute(explainCredits, async ({ explain }, { caller, query }) => ({
    body: await explain.explain({ userId: caller.userId, ...query }),
  })),

  defineRoute(explainUserCredits, async ({ explain }, { params, query }) => ({
    body: await explain.explain({ userId: params.userId, ...query }),
  })),

  defineRoute(getStatement, async ({ explain }, { caller, query }) => ({
    body: await explain.statement({ userId: caller.userId, ...query }),
  })),

  defineRoute(exportStatementCsv, async ({ explain }, { caller, query }) => ({
    stream: await exportStatement(explain, { userId: caller.userId, ...query }),
    headers: attachment,
  })),

  defineRoute(getUserStatement, async ({ explain }, { params, query }) => ({
    body: await explain.statement({ userId: params.userId, ...query }),
  })),

  defineRoute(exportUserStatement, async ({ explain }, { params, query }) => ({
    stream: await exportStatement(explain, { userId: params.userId, ...query }),
    headers: attachment,
  })),
];
