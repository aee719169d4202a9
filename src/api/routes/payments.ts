import { getPayment, setPaymentState } from '../contract/payments.ts';
import { defineRoute } from '../defineRoute.ts';
import { mutateMoney } from '../mutateMoney.ts';

export const paymentRoutes = [
  defineRoute(getPayment, async ({ payments }, { params }) => ({
    body: await payments.state(params.payment),
  })),

  defineRoute(setPaymentState, (deps, { params, query, body, caller }) => {
    const { version, paid, refunded, disputed, currency, status, reason } = body;
    const change = {
      payment: params.payment,
      version,
      amounts: { paid, refunded, disputed },
      currency,
      status,
      reason,
    };
    return mutateMoney(deps, query, async ({ payments }) => ({
      answer: await payments.change(change, caller.actor),
    }));
  }),
];
