import {
  getNotification,
  listAlerts,
  listNotifications,
  previewMail,
  retryNotification,
} from '../contract/notifications.ts';
import { defineRoute } from '../defineRoute.ts';

export const notificationRoutes = [
  defineRoute(listNotifications, async ({ notifications }, { query }) => {
    const { user_id: userId, ...filter } = query;
    return { body: await notifications.list({ ...filter, userId }) };
  }),

  defineRoute(previewMail, async ({ notifications }, { params }) => ({
    body: await notifications.sample(params.name),
  })),

  defineRoute(getNotification, async ({ notifications }, { params }) => ({
    body: await notifications.get(params.id),
  })),

  defineRoute(retryNotification, async ({ notifications }, { params, caller }) => ({
    body: await notifications.retry(params.id, caller.actor),
  })),

  defineRoute(listAlerts, async ({ alerts }, { query: { status, limit } }) => ({
    body: {
      data: await alerts.list({
        ...(status === undefined ? {} : { status }),
        ...(limit === undefined ? {} : { limit }),
      }),
    },
  })),
];
