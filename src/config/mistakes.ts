/**
 * Values that cannot be meant, told by what they are: a key of another kind, a command pasted with
 * the address in it, the example of a manual. "Is not valid" would leave the reader searching.
 * Only what is certain stands here, and no text repeats the value.
 */

export interface Mistake {
  /** Reads on after the name of the variable. */
  problem: string;
  /** Default: the variable's own. */
  fix?: string;
}

interface Rule extends Mistake {
  when: RegExp | ((value: string) => boolean);
}

const STRIPE_KEYS = 'Stripe: Developers, API keys';
const PASTE_VALUE = 'Paste what follows the = alone.';
const SUPABASE_API = /^https?:\/\/[\w.-]+\.supabase\.(?:co|in|red)(?:[/:]|$)/i;
const UPSTASH_REST = /^https?:\/\/[\w.-]+\.upstash\.io(?:[/:]|$)/i;

/** By variable; the first rule that fits is told. */
const RULES: Readonly<Record<string, readonly Rule[]>> = {
  STRIPE_SECRET_KEY: [
    {
      when: /^pk_(?:test|live)_/,
      problem: 'is a publishable key (pk_...), which may not create checkouts',
      fix: `Copy the secret key (sk_...) beside it from ${STRIPE_KEYS}.`,
    },
    {
      when: /^whsec_/,
      problem: 'is the signing secret of a webhook, not an API key',
      fix: `Put it into STRIPE_WEBHOOK_SECRET, and copy the secret key (sk_...) from ${STRIPE_KEYS}.`,
    },
  ],
  STRIPE_WEBHOOK_SECRET: [
    {
      when: /(?:^|,)\s*[srp]k_(?:test|live)_/,
      problem: 'is an API key, not the signing secret of a webhook',
    },
    {
      when: /(?:^|,)\s*we_\w+/,
      problem: 'is the id of a webhook endpoint (we_...), not its signing secret',
    },
    {
      when: /^https?:\/\//,
      problem: 'is an address, not the signing secret of the endpoint',
    },
  ],
  DATABASE_URL: [
    {
      when: SUPABASE_API,
      problem: 'is the address of a Supabase project, not of its Postgres',
      fix: 'Put it into SUPABASE_URL with SUPABASE_SECRET_KEY, or set the connection string (postgresql://...) from Supabase: Connect.',
    },
    {
      when: /^https?:\/\//,
      problem: 'is a web address, not a connection string',
      fix: 'Set it as postgresql://user:password@host:5432/database.',
    },
    {
      when: /^jdbc:/,
      problem: 'is a JDBC address',
      fix: 'Set it as postgresql://user:password@host:5432/database, without jdbc:.',
    },
    {
      when: /^psql\s/,
      problem: 'is a psql command',
      fix: 'Keep the postgresql://... part alone, without psql and quotes.',
    },
    {
      when: hasStrayDelimiter,
      problem: 'has a special character (one of / ? #) in its user or password',
      fix: 'Percent-encode it: / is %2F, ? is %3F, # is %23, @ is %40, : is %3A.',
    },
    {
      when: hasStrayPercent,
      problem: 'has a % in its user or password that begins no percent-encoding',
      fix: 'Write %25 for a percent sign.',
    },
    { when: /\s/, problem: 'has white space in it' },
    {
      when: /:(?:\[your-password\]|<[^>@]*>|your[-_]password)@/i,
      problem: 'still holds a placeholder such as [YOUR-PASSWORD]',
      fix: 'Put the password of the database in its place, without brackets, special characters percent-encoded.',
    },
  ],
  REDIS_URL: [
    {
      when: UPSTASH_REST,
      problem: 'is the REST address of an Upstash database',
      fix: 'Put it into UPSTASH_REDIS_REST_URL, with UPSTASH_REDIS_REST_TOKEN; or set the rediss://... address here.',
    },
    {
      when: /^redis-cli\s/,
      problem: 'is a redis-cli command',
      fix: 'Keep the redis://... part alone; with --tls write rediss://.',
    },
    {
      when: /^redis:\/\/[^/]*\.upstash\.io(?:[/:]|$)/i,
      problem: 'asks Upstash for a connection without TLS, which it refuses',
      fix: 'Write rediss:// (with two s) instead of redis://.',
    },
  ],
  UPSTASH_REDIS_REST_URL: [
    {
      when: /^rediss?:\/\//,
      problem: 'is the address for Redis clients, not the REST address',
      fix: 'Put it into REDIS_URL, or copy the REST URL (https://...) of the Upstash database.',
    },
  ],
  UPSTASH_REDIS_REST_TOKEN: [
    {
      when: /^(?:https?|rediss?):\/\//,
      problem: 'is an address, not the token',
    },
  ],
  SUPABASE_URL: [
    {
      when: /^postgres(?:ql)?:\/\//,
      problem: 'is the connection string of the database',
      fix: 'Put it into DATABASE_URL, or set https://<project>.supabase.co here.',
    },
  ],
  SUPABASE_JWT_SECRET: [
    {
      when: /^eyJ[\w-]+\.[\w-]+\.[\w-]*$/,
      problem: 'is a token or API key (eyJ...), not the secret that signs them',
    },
    {
      when: /^sb_(?:secret|publishable)_/,
      problem: 'is an API key, not the secret that signs tokens',
    },
  ],
  PUBLIC_URL: [
    {
      when: /\/api(?:\/.*)?$/,
      problem: 'ends in /api, which Purser adds itself',
      fix: 'Set the address without the path, such as https://credits.example.com.',
    },
  ],
};

/** For what is copied out of a dashboard or a manual: secrets, and the addresses of projects. */
const EXAMPLES: readonly Rule[] = [
  {
    when: /[*•●]{3,}/,
    problem: 'is the masked form a dashboard shows, not the value',
    fix: 'Reveal it where you copied it, and copy it whole.',
  },
  {
    when: (value) => value.split(',').some((item) => isExample(item.trim())),
    problem: 'is a placeholder, not a value',
  },
];

/** What stands before the part that an example makes up. */
const KNOWN_START = /^(?:[srp]k_(?:test|live)_|whsec_|re_|sb_(?:secret|publishable)_|https?:\/\/)/i;

function isExample(item: string): boolean {
  const rest = item.replace(KNOWN_START, '');
  return (
    (rest === '' && item !== '') ||
    /\.\.\.|…|^<.*>|^\[.*\]/.test(rest) ||
    /^(?:your|my|the)?[-_ ]?x{3,24}(?:$|[._-])/i.test(rest) ||
    /^(?:your[-_ ]|replace[-_ ]?(?:me|this|with)|(?:insert|paste)[-_ ])/i.test(rest) ||
    /(?:key|secret|token)[-_ ](?:goes[-_ ])?here$/i.test(rest)
  );
}

/** A path, query or fragment that begins inside the credentials. */
function hasStrayDelimiter(value: string): boolean {
  const rest = /^postgres(?:ql)?:\/\/(.*)$/i.exec(value)?.[1];
  if (rest === undefined) return false;
  // Parameters may well hold an @.
  const address = rest.replace(/\?\w+=.*$/, '');
  const authority = address.split(/[/?#]/, 1)[0] ?? '';
  return !authority.includes('@') && address.includes('@');
}

function hasStrayPercent(value: string): boolean {
  const credentials = /^postgres(?:ql)?:\/\/([^/?#]*)@/i.exec(value)?.[1] ?? '';
  return /%(?![0-9a-f]{2})/i.test(credentials);
}

function fits({ when }: Rule, value: string): boolean {
  return when instanceof RegExp ? when.test(value) : when(value);
}

export interface MistakeQuery {
  /** The variable's first name, which the rules go by. */
  canonical: string;
  /** The name it was found under. */
  name: string;
  value: string;
  /** True for secrets and addresses of projects, which are copied rather than made up. */
  copied: boolean;
}

/** What a value is instead of what it should be; null when nothing can be told. */
export function recogniseMistake({ canonical, name, value, copied }: MistakeQuery): Mistake | null {
  if (new RegExp(`^(?:export\\s+)?(?:${canonical}|${name})\\s*=`).test(value)) {
    return { problem: 'holds its own name as well', fix: PASTE_VALUE };
  }
  if (/^(["'`]).*\1$/s.test(value)) {
    return {
      problem: 'is wrapped in quotes, which are taken as part of the value',
      fix: 'Remove the quotes where it is set (docker --env-file and most dashboards keep them).',
    };
  }
  const rules = [...(RULES[canonical] ?? []), ...(copied ? EXAMPLES : [])];
  return rules.find((rule) => fits(rule, value)) ?? null;
}
