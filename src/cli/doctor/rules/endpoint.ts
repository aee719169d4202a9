import type Stripe from 'stripe';
import { STRIPE_API_VERSION } from '../../../stripe/stripeClient.ts';
import { SUBSCRIBED_TYPES } from '../../../webhook/subscribedTypes.ts';
import type { Reached } from '../probe.ts';
import { CannotLook, type Finding, fail, listed, messageOf, ok, type Rule, warn } from '../rule.ts';
import type { Site } from '../site.ts';

/** Stripe allows 16 endpoints in one account. */
const ENDPOINTS_MAX = 100;
/** Older shapes are not read; see docs/stripe-shapes.md. */
const OLDEST_VERSION = '2020-08-27';
const LOOPBACK = /^(?:127\.|localhost$|\[?::1\]?$)/;
const isLocal = (address: string) => LOOPBACK.test(new URL(address).hostname);
const ENDPOINT_PAGE = 'Stripe: Developers, Webhooks';

async function endpoints(site: Site): Promise<Stripe.WebhookEndpoint[]> {
  const stripe = site.stripe();
  try {
    return (await stripe.webhookEndpoints.list({ limit: ENDPOINTS_MAX })).data;
  } catch (error) {
    throw new CannotLook(`Stripe did not list its endpoints: ${messageOf(error)}`, error);
  }
}

function reachFinding(site: Site, reached: Reached): Finding {
  const url = site.webhookUrl;
  if (reached.how === 'silent') {
    return fail(
      `Nothing answers at ${url}: ${reached.error}.`,
      'Start the server, and set PUBLIC_URL to the address under which Stripe reaches it.',
    );
  }
  const { status, location, code, detail } = reached;
  if (code === 'invalid_signature') return ok(`${url} is Purser's webhook route.`);
  if (status >= 300 && status < 400) {
    return fail(
      `${url} answers ${status} and sends callers to ${location ?? 'nowhere'}; Stripe follows no redirect.`,
      'Set PUBLIC_URL, and the endpoint in Stripe, to the address it ends at (with or without www, https).',
    );
  }
  if (status === 401 || status === 403) {
    return fail(
      `${url} answers ${status}: something in front of Purser asks for a sign-in (${detail}).`,
      'Take the protection off this path, or use the production domain instead of a deployment’s own address (Vercel: Settings, Deployment Protection).',
    );
  }
  if (status === 503) {
    return fail(`${url} answers 503: ${detail}`, 'Mend what it names; GET /readyz tells more.');
  }
  return fail(
    `${url} answers ${status}, which is not Purser’s webhook route (${detail}).`,
    'Check PUBLIC_URL, and that /api/webhooks/stripe is passed on to Purser.',
  );
}

function matches(endpoint: Stripe.WebhookEndpoint, url: string): boolean {
  return endpoint.url.replace(/\/+$/, '') === url;
}

function registrationFinding(site: Site, all: readonly Stripe.WebhookEndpoint[]): Finding {
  const url = site.webhookUrl;
  const found = all.find((endpoint) => matches(endpoint, url));
  if (found?.status === 'enabled') return ok(`Stripe delivers to it (${found.id}).`);
  if (found !== undefined) {
    return fail(
      `The endpoint ${found.id} is disabled in Stripe; nothing is delivered.`,
      `Enable it (${ENDPOINT_PAGE}), then run \`purser replay --missed\` for what it missed.`,
    );
  }
  const apiBase = site.values.STRIPE_API_BASE;
  if (isLocal(url) && (apiBase === undefined || !isLocal(apiBase))) {
    return warn(
      `${url} is this machine, which Stripe cannot reach.`,
      `Run \`stripe listen --forward-to ${url}\` beside the server, with the secret it prints.`,
    );
  }
  const { host } = new URL(url);
  const near = all.find(({ url: other }) => URL.canParse(other) && new URL(other).host === host);
  const others = near ?? all.find(({ url: other }) => other.endsWith('/api/webhooks/stripe'));
  return fail(
    others === undefined
      ? `No endpoint in Stripe delivers to ${url}.`
      : `No endpoint in Stripe delivers to ${url}; ${others.id} delivers to ${others.url}.`,
    others === undefined
      ? `Add an endpoint with exactly this address (${ENDPOINT_PAGE}).`
      : `Change its address to ${url} (${ENDPOINT_PAGE}), or set PUBLIC_URL to fit it.`,
  );
}

export const endpointRule: Rule = {
  code: 'webhook-endpoint',
  title: 'Stripe reaches the webhook route',
  async check(site) {
    site.stripe();
    const reached = reachFinding(site, await site.probe.reach());
    return [reached, registrationFinding(site, await endpoints(site))];
  },
};

export const endpointEventsRule: Rule = {
  code: 'endpoint-events',
  title: 'The endpoint takes every event Purser acts upon',
  async check(site) {
    const found = (await endpoints(site)).find((endpoint) => matches(endpoint, site.webhookUrl));
    if (found === undefined) {
      throw new CannotLook('Stripe has no endpoint for this server; see "webhook-endpoint".');
    }
    const findings: Finding[] = [];
    const taken = new Set(found.enabled_events);
    const missing = taken.has('*') ? [] : SUBSCRIBED_TYPES.filter((type) => !taken.has(type));
    if (missing.length > 0) {
      findings.push(
        fail(
          `${found.id} lacks ${missing.length} of ${SUBSCRIBED_TYPES.length} event types: ${listed(missing, 3)}.`,
          `Add them to the endpoint (docs/stripe-events.md has the whole list to paste), then run \`purser replay --missed\`. All that is missing: ${missing.join(', ')}.`,
        ),
      );
    }
    const version = found.api_version;
    if (version !== null && version.slice(0, 10) < OLDEST_VERSION) {
      findings.push(
        fail(
          `${found.id} sends events of API version ${version}, older than Purser reads.`,
          `Make a new endpoint with version ${STRIPE_API_VERSION} and delete this one.`,
        ),
      );
    } else if (version !== null && version !== STRIPE_API_VERSION) {
      findings.push(
        warn(
          `${found.id} sends events of API version ${version}, while Purser asks Stripe in ${STRIPE_API_VERSION}.`,
          'Purser reads both shapes. To have one, make an endpoint with the newer version and delete this one.',
        ),
      );
    }
    return findings.length > 0
      ? findings
      : ok(`${found.id} sends all ${SUBSCRIBED_TYPES.length} event types.`);
  },
};
