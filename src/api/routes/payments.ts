import { getPayment, setPaymentState } from '../contract/payments.ts';
import { defineRoute } from '../defineRoute.ts';

export const paymentRoutes = [
  defineRoute(getPayment, async ({ payments }, { params }) => ({
    body: await payments.state(params.payment),
  })),

  defineRoute(setPaymentState, async ({ payments }, { params, body, caller }) => {
    const { version, paid, refunded, disputed, currency, status, reason } = body;
    return {
      body: await payments.change(
        {
          payment: params.payment,
          version,
          amounts: { paid, refunded, disputed },
          currency,
          status,
          reason,
        },
        caller.actor,
      ),
    };
  }),
];
