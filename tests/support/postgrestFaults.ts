/** What goes wrong between a client and the Data API, on demand. */
import type { ServerResponse } from 'node:http';
import type { HttpAnswer } from './postgrestErrors.ts';

/**
 * - `reset`: the connection ends without a word.
 * - `half_answer`: it ends in the middle of the answer.
 * - `silence`: no answer ever comes.
 * - `html_502`: a proxy's error page.
 * - the others: the gateway's or PostgREST's own refusals.
 */
export type FaultKind =
  | 'reset'
  | 'half_answer'
  | 'silence'
  | 'html_502'
  | 'html_503'
  | 'cloudflare_522'
  | 'pgrst_503'
  | 'rate_limit_429';

export interface FaultPlan {
  kind: FaultKind;
  /** `after`: the call has run and committed, only its answer is lost. */
  when: 'before' | 'after';
  /** Calls to come that are hit; default 1. */
  times?: number;
  /** Hits calls of these functions only. */
  functions?: RegExp;
  /** Leaves calls alone that were hit before with the same arguments: the repeat gets through. */
  oncePerCall?: boolean;
}

export interface HappenedFault {
  kind: FaultKind;
  functionName: string;
  /** True when the call had run and answered well before its answer was lost. */
  committed: boolean;
}

export interface Faults {
  plan(plan: FaultPlan): void;
  clear(): void;
  /** Every request waits this long before anything else, in milliseconds. */
  delayMs: number;
  readonly happened: readonly HappenedFault[];
}

export interface FaultInjector extends Faults {
  /** The plan that hits this call, used up once. */
  take(functionName: string, body: string): FaultPlan | null;
  note(fault: HappenedFault): void;
}

export function createFaults(): FaultInjector {
  let plans: Required<FaultPlan>[] = [];
  const hitCalls = new Set<string>();
  const happened: HappenedFault[] = [];
  return {
    delayMs: 0,
    happened,
    plan(plan) {
      plans.push({ times: 1, functions: /./, oncePerCall: false, ...plan });
    },
    clear() {
      plans = [];
      hitCalls.clear();
    },
    take(functionName, body) {
      const call = `${functionName} ${body}`;
      const hit = plans.find(
        (plan) => plan.functions.test(functionName) && !(plan.oncePerCall && hitCalls.has(call)),
      );
      if (hit === undefined) return null;
      hitCalls.add(call);
      hit.times -= 1;
      if (hit.times <= 0) plans = plans.filter((plan) => plan !== hit);
      return hit;
    },
    note(fault) {
      happened.push(fault);
    },
  };
}

const JSON_TYPE = { 'content-type': 'application/json; charset=utf-8' };
const HTML_TYPE = { 'content-type': 'text/html' };

function page(status: number, title: string): HttpAnswer {
  const filler = '<p>The web server reported an error.</p>'.repeat(50);
  const body = `<!DOCTYPE html>\n<html><head><title>${title}</title></head><body>${filler}</body></html>`;
  return { status, headers: HTML_TYPE, body };
}

const ANSWERS: Partial<Record<FaultKind, HttpAnswer>> = {
  html_502: page(502, '502 Bad Gateway'),
  html_503: page(503, '503 Service Temporarily Unavailable'),
  cloudflare_522: page(522, 'project | 522: Connection timed out'),
  pgrst_503: {
    status: 503,
    headers: JSON_TYPE,
    body: JSON.stringify({
      code: 'PGRST002',
      message: 'Could not query the database for the schema cache. Retrying.',
      details: null,
      hint: null,
    }),
  },
  rate_limit_429: {
    status: 429,
    headers: JSON_TYPE,
    body: JSON.stringify({ message: 'API rate limit exceeded' }),
  },
};

/** Does to a response what the fault says; `answer` is what the client will not get whole. */
export function spoil(response: ServerResponse, kind: FaultKind, answer: HttpAnswer | null): void {
  const instead = ANSWERS[kind];
  if (instead !== undefined) {
    response.writeHead(instead.status, instead.headers).end(instead.body);
    return;
  }
  if (kind === 'silence') return;
  if (kind === 'half_answer' && answer !== null) {
    const body = Buffer.from(answer.body);
    response.writeHead(answer.status, { ...answer.headers, 'content-length': body.length + 1 });
    response.write(body.subarray(0, Math.ceil(body.length / 2)), () =>
      response.socket?.resetAndDestroy(),
    );
    return;
  }
  response.socket?.resetAndDestroy();
}
