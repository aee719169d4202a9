import type { Context } from './context.ts';

export interface Instance {
  /** New for every start; tells two owners of one data directory apart. */
  readonly instance: string;
  readonly pid: number;
  readonly webhookSecret: string;
}

export interface ControlCall {
  /** The id in the path; empty where there is none. */
  readonly id: string;
  readonly query: URLSearchParams;
  readonly body: unknown;
  readonly instance: Instance;
}

/** One call of the control API; it runs in one transaction. */
export interface ControlRoute {
  readonly method: 'GET' | 'POST' | 'PUT';
  readonly pattern: RegExp;
  readonly run: (ctx: Context, call: ControlCall) => unknown;
}
