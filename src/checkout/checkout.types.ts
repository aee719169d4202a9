/** What the checkout domain answers, in the shapes of the HTTP contract. */

export type StripeMode = 'local' | 'test' | 'live';

export interface PricedPack {
  id: string;
  name: string;
  description: string | null;
  credits: number;
  unit_amount: number;
  currency: string;
  price_id: string;
  product_id: string;
}

export interface PricedPlan {
  id: string;
  name: string;
  interval: 'month' | 'year';
  credits: number;
  unit_amount: number;
  currency: string;
  price_id: string;
  product_id: string;
}

export interface PricingAnswer {
  mode: StripeMode;
  currency: string;
  packs: PricedPack[];
  plans: PricedPlan[];
  as_of: string;
}

export interface CheckoutSessionRequest {
  userId: string;
  email: string | null;
  /** Catalogue id; exactly one of `plan` and `priceId` is given. */
  plan?: string | undefined;
  priceId?: string | undefined;
  /** 1 to 100. */
  quantity: number;
  successUrl?: string | undefined;
  cancelUrl?: string | undefined;
  /** The caller's nonce: the same key gives the same session. */
  idempotencyKey?: string | undefined;
}

export interface CheckoutSessionAnswer {
  session_id: string;
  url: string;
  mode: 'payment' | 'subscription';
  plan: string;
  credits: number;
  expires_at: string;
}

export interface CheckoutStatusAnswer {
  session_id: string;
  status: 'open' | 'processing' | 'credited' | 'parked' | 'expired' | 'failed';
  credits: number;
  /** For the owner only; absent for others and for nobody. */
  balance?: number;
}

/** The checkout domain as the API sees it. `userId` null = the caller is not signed in. */
export interface Checkout {
  /** Prices from Stripe, kept 60 s in the process. Errors: `dependency_down`. */
  pricing(): Promise<PricingAnswer>;
  /** Errors: `invalid_request` (unknown plan, foreign return URL), `dependency_down`. */
  createSession(request: CheckoutSessionRequest): Promise<CheckoutSessionAnswer>;
  /** Errors: `not_found`. */
  sessionStatus(request: {
    sessionId: string;
    userId: string | null;
  }): Promise<CheckoutStatusAnswer>;
  /** Settles a paid session through the webhook's own path. Errors: `not_found`. */
  fulfill(request: { sessionId: string; userId: string | null }): Promise<CheckoutStatusAnswer>;
  /** Errors: `invalid_request` (foreign return URL), `dependency_down`. */
  portalSession(request: {
    userId: string;
    email: string | null;
    returnUrl?: string | undefined;
  }): Promise<{ url: string }>;
}
