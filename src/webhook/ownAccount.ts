import type Stripe from 'stripe';
import { callStripe, isStripeError } from '../checkout/stripeErrors.ts';
import { PurserError } from '../core/errors.ts';
import type { Clock, Logger } from '../core/ports.ts';

/** After a refusal: a permission that was granted meanwhile counts without a restart. */
const ASK_AGAIN_MS = 10 * 60_000;

/**
 * The id of the account that our key is of. Asked for by the first event that names an account, and
 * known from then on. Null: Stripe does not tell this key. Errors: `dependency_down` while Stripe
 * does not answer, or refuses the key altogether.
 */
export type OwnAccount = () => Promise<string | null>;

export interface OwnAccountDeps {
  stripe: Pick<Stripe, 'accounts'>;
  clock: Clock;
  logger: Logger;
}

export function createOwnAccount({ stripe, clock, logger }: OwnAccountDeps): OwnAccount {
  let known: string | null = null;
  let refusedUntil = 0;
  let asking: Promise<string | null> | null = null;

  async function ask(): Promise<string | null> {
    try {
      known = (await callStripe(() => stripe.accounts.retrieveCurrent())).id;
    } catch (error) {
      if (!isRefusal(error)) throw error;
      refusedUntil = clock.now().getTime() + ASK_AGAIN_MS;
      logger.warn(
        'Stripe does not tell this key its own account, so events of other accounts of an organisation cannot be told from ours. Give STRIPE_SECRET_KEY read access to Accounts.',
        { error },
      );
    }
    return known;
  }

  return async () => {
    if (known !== null || clock.now().getTime() < refusedUntil) return known;
    asking ??= ask().finally(() => {
      asking = null;
    });
    return asking;
  };
}

/** The key may do other things, and this not; or what stands in Stripe's place cannot answer it. */
function isRefusal(error: unknown): boolean {
  const cause = error instanceof PurserError ? error.cause : error;
  return (
    isStripeError(cause) &&
    (cause.type === 'StripePermissionError' || cause.type === 'StripeInvalidRequestError')
  );
}
