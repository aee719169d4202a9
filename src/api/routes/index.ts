import type { Route } from '../defineRoute.ts';
import { checkoutRoutes } from './checkout.ts';
import { creditRoutes } from './credits.ts';
import { healthRoutes } from './health.ts';
import { operationRoutes } from './operations.ts';
import { userRoutes } from './users.ts';

/** The route table. A path with a fixed part comes before one with a parameter in its place. */
export const routes: readonly Route[] = [
  ...checkoutRoutes,
  ...creditRoutes,
  ...userRoutes,
  ...operationRoutes,
  ...healthRoutes,
];
