import {
  explainAdminUser,
  getAdminUser,
  getSubscriptionHealth,
  listAdminUserTransactions,
  listAuditEvents,
  searchUsers,
} from '../contract/admin.ts';
import { defineRoute } from '../defineRoute.ts';

export const adminRoutes = [
  defineRoute(getSubscriptionHealth, async ({ subscriptionHealth }) => ({
    body: await subscriptionHealth.report(),
  })),

  defineRoute(listAuditEvents, async ({ audit }, { query }) => ({ body: await audit.list(query) })),

  defineRoute(searchUsers, async ({ adminUsers }, { query }) => ({
    body: await adminUsers.search(query),
  })),

  defineRoute(getAdminUser, async ({ adminUsers }, { params }) => ({
    body: await adminUsers.view(params.userId),
  })),

  defineRoute(listAdminUserTransactions, async ({ credits }, { params, query }) => ({
    body: await credits.transactions({ userId: params.userId, ...query }),
  })),

  defineRoute(explainAdminUser, async ({ explain }, { params, query }) => ({
    body: await explain.explain({ userId: params.userId, ...query }),
  })),
];
