/** Every route of the HTTP API, without the code behind it. */
export * from './checkout.ts';
export * from './credits.ts';
export * from './declareRoute.ts';
export * from './operations.ts';
export * from './pricing.ts';
export * from './users.ts';
