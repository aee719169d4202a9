import type { Route } from '../defineRoute.ts';
import { adminRoutes } from './admin.ts';
import { checkoutRoutes } from './checkout.ts';
import { consumeBatchRoutes } from './consumeBatch.ts';
import { correctionRoutes } from './corrections.ts';
import { creditRoutes } from './credits.ts';
import { dunningRoutes } from './dunning.ts';
import { explainRoutes } from './explain.ts';
import { healthRoutes } from './health.ts';
import { holdRoutes } from './holds.ts';
import { notificationRoutes } from './notifications.ts';
import { operationRoutes } from './operations.ts';
import { paymentRoutes } from './payments.ts';
import { reconcileRoutes } from './reconcile.ts';
import { subscriptionRoutes } from './subscriptions.ts';
import { userRoutes } from './users.ts';
import { webhookAdminRoutes } from './webhookAdmin.ts';

/**
 * The route table. A path with a fixed part comes before one with a parameter in its place, and
 * what apps call most comes first: the router tries one route after the other.
 */
export const routes: readonly Route[] = [
  ...creditRoutes,
  ...consumeBatchRoutes,
  ...correctionRoutes,
  ...holdRoutes,
  ...checkoutRoutes,
  ...subscriptionRoutes,
  ...explainRoutes,
  ...userRoutes,
  ...paymentRoutes,
  ...operationRoutes,
  ...webhookAdminRoutes,
  ...notificationRoutes,
  ...dunningRoutes,
  ...adminRoutes,
  ...reconcileRoutes,
  ...healthRoutes,
];
