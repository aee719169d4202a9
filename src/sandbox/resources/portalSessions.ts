import { add, type Context, seconds } from '../context.ts';
import { badRequest } from '../errors.ts';
import { expand, type Parsed, refused, text, url } from '../params.ts';
import { type Route, route } from '../route.ts';
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

export const portalSessionRoutes: Route[] = [
  route('POST', '/v1/billing_portal/sessions', createParams, createPortalSession),
];
