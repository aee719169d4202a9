import { add, type Context, seconds } from '../context.ts';
import { badRequest } from '../errors.ts';
import { expand, flag, integer, type Parsed, refused, text, url } from '../params.ts';
import { type Route, route } from '../route.ts';
import { settingsOf } from '../settings.ts';
import { portalSessions } from '../tables.ts';
import { findCustomer } from './customers.ts';

export type PortalSessionView = {
  id: string;
  object: 'billing_portal.session';
  configuration: string;
  created: number;
  customer: string;
  customer_account: null;
  flow: null;
  livemode: false;
  locale: string | null;
  on_behalf_of: null;
  return_url: string | null;
  url: string;
};

/** There is one portal, and it cannot be configured. */
const CONFIGURATION = 'bpc_sandbox';

const createParams = {
  after_expiration: refused(),
  configuration: text(),
  customer: text(),
  customer_account: refused(),
  expand,
  flow_data: refused('the portal page shows payments only'),
  locale: text(10),
  on_behalf_of: refused(),
  return_url: url,
};

function createPortalSession(ctx: Context, given: Parsed<typeof createParams>): PortalSessionView {
  if (given.customer === undefined) {
    throw badRequest('Missing required param: customer.', {
      param: 'customer',
      code: 'parameter_missing',
    });
  }
  if (given.configuration !== undefined && given.configuration !== CONFIGURATION) {
    throw badRequest(`No such configuration: '${given.configuration}'`, {
      param: 'configuration',
      code: 'resource_missing',
    });
  }
  if (given.configuration === undefined && !settingsOf(ctx).portal_saved) {
    throw badRequest(
      'No configuration provided and your test mode default configuration has not been created. Save your customer portal settings in test mode, or provide a configuration.',
    );
  }
  const customer = findCustomer(ctx, given.customer, 'customer', 400);
  const id = ctx.newId('bps_');
  return add(
    ctx,
    portalSessions,
    {
      id,
      object: 'billing_portal.session',
      configuration: CONFIGURATION,
      created: seconds(ctx),
      customer: customer.id,
      customer_account: null,
      flow: null,
      livemode: false,
      locale: given.locale ?? null,
      on_behalf_of: null,
      return_url: given.return_url ?? null,
      url: `${ctx.origin()}/p/session/${id}`,
    },
    {},
  ).view;
}

/** The portal's settings as the dashboard saves them; they change nothing of the portal page. */
function configuration(ctx: Context) {
  const off = { enabled: false };
  const created = seconds(ctx);
  return {
    id: CONFIGURATION,
    object: 'billing_portal.configuration',
    active: true,
    application: null,
    business_profile: { headline: null, privacy_policy_url: null, terms_of_service_url: null },
    created,
    default_return_url: null,
    features: {
      customer_update: { allowed_updates: [], ...off },
      invoice_history: off,
      payment_method_update: { ...off, payment_method_configuration: null },
      subscription_cancel: {
        cancellation_reason: { feedback_options: null, options: [], ...off },
        ...off,
        mode: 'at_period_end',
        proration_behavior: 'none',
      },
      subscription_pause: { duration: { interval_options: [], type: 'indefinite' }, ...off },
      subscription_update: {
        billing_cycle_anchor: null,
        default_allowed_updates: [],
        ...off,
        proration_behavior: 'none',
        schedule_at_period_end: { conditions: [] },
        trial_update_behavior: 'end_trial',
      },
    },
    is_default: true,
    livemode: false,
    login_page: { enabled: false, url: null },
    metadata: {},
    name: null,
    updated: created,
  };
}

/** There is one at most, so there is nothing to page through. */
const listParams = { active: flag, is_default: flag, limit: integer({ min: 1, max: 100 }), expand };

function listConfigurations(ctx: Context, given: Parsed<typeof listParams>) {
  const asked = given.active !== false && given.is_default !== false;
  const data = asked && settingsOf(ctx).portal_saved ? [configuration(ctx)] : [];
  return { object: 'list', data, has_more: false, url: '/v1/billing_portal/configurations' };
}

export const portalSessionRoutes: Route[] = [
  route('GET', '/v1/billing_portal/configurations', listParams, listConfigurations),
  route('POST', '/v1/billing_portal/sessions', createParams, createPortalSession),
];
