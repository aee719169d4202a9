import type Stripe from 'stripe';
import type { Catalogue } from '../catalogue/catalogue.ts';
import { readReceiptLinks } from '../checkout/receiptLinks.ts';
import type { Settings } from '../config.ts';
import type { Database, Logger } from '../core/ports.ts';
import { createAlertPosters } from '../notifications/alertChannels.ts';
import { type Alerts, createAlerts } from '../notifications/alerts.ts';
import { writeBalanceNotices } from '../notifications/balanceNotices.ts';
import type { Brand } from '../notifications/mailContent.ts';
import { createNotifications, type Notifications } from '../notifications/notifications.ts';
import { openMail } from '../notifications/openMail.ts';
import { senderOf } from '../notifications/plainText.ts';
import { type SendReport, sendDue } from '../notifications/sendDue.ts';

export interface OpenedNotifications {
  notifications: Notifications;
  alerts: Alerts;
  /** The work of the jobs `notifications` and `balance-notices`. */
  send(shouldStop: () => boolean): Promise<SendReport>;
  writeBalanceNotices(shouldStop: () => boolean): Promise<Record<string, number>>;
}

export interface OpenNotificationsDeps {
  settings: Settings;
  db: Database;
  logger: Logger;
  stripe: Stripe;
  catalogue: Catalogue;
  publicUrl: () => string;
}

/** The outbox with the transport and the channels that the settings name. */
export function openNotifications(deps: OpenNotificationsDeps): OpenedNotifications {
  const { settings, db, logger, stripe, catalogue, publicUrl } = deps;
  const { mail } = catalogue;
  const alerts = createAlerts({ db });
  const brand = (): Brand => ({
    name: mail.name ?? senderName(settings),
    support: mail.support,
    publicUrl: publicUrl(),
  });
  return {
    notifications: createNotifications({ db, brand }),
    alerts,
    send: (shouldStop) =>
      sendDue(
        {
          db,
          logger,
          random: Math.random,
          transport: openMail(settings.mail).transport,
          posters: createAlertPosters({
            ...settings.alerts,
            publicUrl,
            allowLoopback: !settings.production,
          }),
          alerts,
          brand,
          off: new Set(mail.off),
          receiptLinks: (purchase) => readReceiptLinks(stripe, purchase),
        },
        shouldStop,
      ),
    writeBalanceNotices: (shouldStop) =>
      writeBalanceNotices(
        {
          db,
          lowBalance: mail.lowBalance,
          expiringDays: mail.expiringDays,
          buyUrl: () => `${publicUrl()}/pricing`,
        },
        shouldStop,
      ),
  };
}

/** What a reader sees as the sender of the mail; else where it leads to. */
function senderName({ mail, http }: Settings): string {
  const sender = mail.from === null ? null : senderOf(mail.from).name;
  return sender ?? (http.publicUrl === null ? 'Demo shop' : new URL(http.publicUrl).hostname);
}
