import type { Context } from './context.ts';

export interface Instance {
  /** New for every start; tells two owners of one data directory apart. */
  readonly instance: string;
  readonly pid: number;
  readonly webhookSecret: string;
}

/** One action of the control API. It runs inside one transaction, like a call of Stripe's API. */
export interface ControlRoute {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** Its first group is the id. */
  readonly pattern: RegExp;
  readonly run: (ctx: Context, call: Call) => unknown;
}

export interface Call {
  readonly id: string;
  readonly query: URLSearchParams;
  /** Parsed JSON, `{}` when none was sent. */
  readonly body: unknown;
  readonly instance: Instance;
}
