import type { ApiFault } from '../apiFaults.ts';
import type { Faults } from '../faults.ts';
import {
  command,
  given,
  limitOption,
  numberOption,
  textOption,
  UsageError,
  type Values,
  word,
} from './command.ts';

const text = { type: 'string' } as const;
const on = { type: 'boolean' } as const;

/** Deliveries listed unless asked for more. */
const SHOWN_DEFAULT = 20;
/** As many as the sandbox answers at once. */
const SHOWN_MAX = 1_000;

function deliveryFault(values: Values): Faults {
  return given({
    duplicate: numberOption(values, 'duplicate'),
    delay_ms: numberOption(values, 'delay'),
    reorder: numberOption(values, 'reorder'),
    lose_answer: numberOption(values, 'lose-answer'),
    drop: values.drop === true ? true : undefined,
    wrong_secret: values['wrong-secret'] === true ? true : undefined,
    down: values.down === true ? true : undefined,
    types: textOption(values, 'types')?.split(','),
    endpoints: textOption(values, 'endpoint')?.split(','),
    times: numberOption(values, 'times'),
    probability: numberOption(values, 'probability'),
  });
}

function apiFault(api: string, values: Values): ApiFault {
  if (api !== 'lost' && !/^\d{3}$/.test(api)) {
    throw new UsageError(`--api must be 429, a status from 500 to 599, or lost, not ${api}.`);
  }
  return given({
    ...(api === 'lost' ? { answer: 'lost' as const } : { status: Number(api) }),
    carried_out: values.after === true ? true : undefined,
    path: textOption(values, 'path'),
    method: textOption(values, 'method') as ApiFault['method'],
    times: numberOption(values, 'times'),
    probability: numberOption(values, 'probability'),
  });
}

export const webhookCommands = {
  break: command({
    usage: '<what>',
    about: 'breaks deliveries or the API until `mend`, instead of what was broken before',
    help: `Deliveries:
  --duplicate <n>     n copies more
  --delay <ms>        the first attempt waits
  --reorder <n>       n together, last one first
  --lose-answer <n>   taken n times before the answer is heard
  --drop              never sent
  --wrong-secret      the first attempt is signed wrongly
  --down              nobody answers at the endpoint
  --types <a,b>       only these event types;   --endpoint <we_...>  only this endpoint
The API:
  --api <429|5xx|lost>   what is answered;      --after  the work is done first
  --path </v1/...>       only this path;        --method <GET|POST|DELETE>
Both:
  --times <n>         how many are hit;         --probability <0..1>  which share of them`,
    options: {
      duplicate: text,
      delay: text,
      reorder: text,
      'lose-answer': text,
      drop: on,
      'wrong-secret': on,
      down: on,
      types: text,
      endpoint: text,
      api: text,
      after: on,
      path: text,
      method: text,
      times: text,
      probability: text,
    },
    run: async (sandbox, _words, values) => {
      const api = textOption(values, 'api');
      if (api !== undefined) {
        const rule = apiFault(api, values);
        await sandbox.setApiFaults(rule);
        return { api_faults: [rule] };
      }
      const rule = deliveryFault(values);
      if (Object.keys(rule).length === 0) {
        throw new UsageError('Say what is to break, e.g. --duplicate 2, --down or --api 500.');
      }
      await sandbox.setFaults(rule);
      return { faults: [rule] };
    },
    show: (answer) => `Broken until \`mend\`: ${JSON.stringify(answer)}`,
  }),
  mend: command({
    usage: '',
    about: 'ends all faults',
    run: async (sandbox) => {
      await sandbox.setFaults([]);
      await sandbox.setApiFaults();
      return { faults: [], api_faults: [] };
    },
    show: () => 'All is well again.',
  }),
  deliveries: command({
    usage: '[options]',
    about: 'lists webhooks, newest first',
    help: `  --type <event type>   --event <evt_...>
  --status <word>       pending, succeeded, failed, dropped, canceled
  --limit <n>           default ${SHOWN_DEFAULT}`,
    options: { type: text, event: text, status: text, limit: text },
    run: async (sandbox, _words, values) => {
      const limit = limitOption(values, SHOWN_DEFAULT, SHOWN_MAX);
      const filter = given({
        type: textOption(values, 'type'),
        event: textOption(values, 'event'),
        status: textOption(values, 'status'),
      });
      return (await sandbox.deliveries(filter)).slice(0, limit);
    },
    show: (found) =>
      found.length === 0
        ? 'No deliveries.'
        : found
            .map(({ event, event_type, status, attempts, next_attempt_at }) =>
              [
                status.padEnd(9),
                event_type.padEnd(38),
                event,
                `${attempts.length} attempt${attempts.length === 1 ? '' : 's'}`,
                next_attempt_at === null
                  ? (attempts.at(-1)?.error ?? '')
                  : `next ${new Date(next_attempt_at).toISOString()}`,
              ].join('  '),
            )
            .join('\n'),
  }),
  resend: command({
    usage: '<event> [endpoint]',
    about: 'sends an event once more, freshly signed',
    run: async (sandbox, words) => {
      const event = word(words, 0, 'event');
      await sandbox.resend(event, words[1]);
      return { event };
    },
    show: ({ event }) => `${event} is sent once more.`,
  }),
  status: command({
    usage: '',
    about: 'how things stand: time, money, objects, endpoints, deliveries, faults',
    run: (sandbox) => sandbox.status(),
    show: (status) =>
      [
        `Stripe sandbox at ${status.origin} (API ${status.api_version})`,
        `Time        ${status.now_iso}`,
        `Balance     ${pairs(status.balance)}`,
        `Objects     ${pairs(status.objects)}`,
        `Endpoints   ${status.endpoints.map(({ url }) => url).join(', ') || 'none'}`,
        `Deliveries  ${pairs(status.deliveries)}`,
        `Faults      ${[...status.faults, ...status.api_faults].map((rule) => JSON.stringify(rule)).join(' ') || 'none'}`,
      ].join('\n'),
  }),
};

function pairs(values: Readonly<Record<string, number>>): string {
  const found = Object.entries(values).map(([name, value]) => `${name} ${value}`);
  return found.length === 0 ? 'none' : found.join(', ');
}
