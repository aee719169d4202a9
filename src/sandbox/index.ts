/** A stand-in for Stripe on this machine. See README.md beside this file. */
export type { ApiFault } from './apiFaults.ts';
export type { BookReport } from './books.ts';
export type { Catalogue } from './catalogue.ts';
export { API_VERSION } from './context.ts';
export type { AdvanceAnswer, ClockAnswer } from './controlClock.ts';
export type { DeliveryView } from './deliveries.ts';
export type { Logger } from './engine.ts';
export type { Faults } from './faults.ts';
export type {
  AdvanceBy,
  Billed,
  BuyOptions,
  BuyResult,
  CancelOptions,
  DisputeOptions,
  FailOptions,
  PayInvoiceOptions,
  PayOptions,
  PayResult,
  RefundOptions,
  Sandbox,
} from './handle.types.ts';
export { type JoinOptions, joinOrStartSandbox } from './join.ts';
export type { Settings } from './settings.ts';
export { type SandboxOptions, startSandbox } from './start.ts';
export type { SandboxStatus } from './statusControl.ts';
