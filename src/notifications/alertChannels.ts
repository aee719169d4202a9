import { type AlertChannel, findAlertAddressFault } from '../core/alertAddress.ts';
import { postJson } from './boundedFetch.ts';
import { oneLine, webAddress } from './plainText.ts';
import { SendError } from './transport.ts';

const POST_SECONDS_MAX = 10;

/** What a message about an alert is told with; see purser.tell_alert. */
export interface AlertMessage {
  event: 'opened' | 'reminder' | 'recovered';
  code: string;
  subject: string;
  severity: 'critical' | 'warning';
  title: string;
  detail: string;
  link: string | null;
  times: number;
  opened_at: string;
  resolved_at: string | null;
}

export interface AlertPoster {
  readonly channel: AlertChannel;
  /** Errors: `SendError`. */
  post(message: AlertMessage): Promise<void>;
}

export interface AlertPosterOptions {
  slackUrl: string | null;
  discordUrl: string | null;
  /** For links that are paths. */
  publicUrl: () => string;
  /** Addresses of this machine, for tests and trials. */
  allowLoopback: boolean;
}

const COLOURS = { critical: 0xb3131b, warning: 0xd97706, recovered: 0x15703a } as const;

export function createAlertPosters(options: AlertPosterOptions): AlertPoster[] {
  const { slackUrl, discordUrl, publicUrl, allowLoopback } = options;
  const poster = (
    channel: AlertChannel,
    url: string | null,
    bodyOf: (message: AlertMessage) => unknown,
  ): AlertPoster[] => {
    if (url === null) return [];
    const what = channel === 'slack' ? 'Slack' : 'Discord';
    return [
      {
        channel,
        async post(message) {
          const fault = findAlertAddressFault(channel, url, allowLoopback);
          if (fault !== null) {
            throw new SendError(`The webhook of ${what} ${fault}.`, { permanent: true });
          }
          const answer = await postJson(url, bodyOf(message), {
            what,
            secondsMax: POST_SECONDS_MAX,
          });
          if (answer.status >= 200 && answer.status < 300) return;
          throw new SendError(`${what} answered ${answer.status}: ${oneLine(answer.body, 200)}`, {
            retryAfterSeconds: answer.retryAfterSeconds,
          });
        },
      },
    ];
  };
  return [
    ...poster('slack', slackUrl, (message) => slackBody(message, publicUrl())),
    ...poster('discord', discordUrl, (message) => discordBody(message, publicUrl())),
  ];
}

function headline({ event, severity, title }: AlertMessage): string {
  const line = oneLine(title, 200);
  if (event === 'recovered') return `Recovered: ${line}`;
  if (event === 'reminder') return `Still open: ${line}`;
  return `${severity === 'critical' ? 'Critical' : 'Warning'}: ${line}`;
}

function facts({ event, times, opened_at, resolved_at, code, subject }: AlertMessage): string {
  const minute = (instant: string) => `${instant.slice(0, 16).replace('T', ' ')} UTC`;
  const name = subject === '' ? code : `${code}, ${oneLine(subject, 100)}`;
  const since = `since ${minute(opened_at)}`;
  if (event === 'recovered' && resolved_at !== null) {
    return `${name}; from ${minute(opened_at)} to ${minute(resolved_at)}`;
  }
  return `${name}; ${since}${times > 1 ? `, seen ${times} times` : ''}`;
}

function linkOf({ link }: AlertMessage, publicUrl: string): string | null {
  return link === null ? null : webAddress(link.startsWith('/') ? `${publicUrl}${link}` : link);
}

/** `<!channel>` and links by others are text. https://docs.slack.dev/messaging/formatting-message-text */
function slackText(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

function slackBody(message: AlertMessage, publicUrl: string): unknown {
  const link = linkOf(message, publicUrl);
  const detail = message.event === 'recovered' ? '' : message.detail;
  const mark = message.event === 'recovered' ? '🟢' : message.severity === 'critical' ? '🔴' : '🟠';
  const lines = [
    `${mark} *${slackText(headline(message))}*`,
    ...(detail === '' ? [] : [slackText(detail.slice(0, 1500))]),
    `_${slackText(facts(message))}_`,
    ...(link === null ? [] : [`<${link.replaceAll('|', '%7C').replaceAll('>', '%3E')}|Open>`]),
  ];
  return {
    text: slackText(headline(message)),
    blocks: [{ type: 'section', text: { type: 'mrkdwn', text: lines.join('\n') } }],
  };
}

function discordBody(message: AlertMessage, publicUrl: string): unknown {
  const link = linkOf(message, publicUrl);
  const recovered = message.event === 'recovered';
  return {
    // Nobody is called by a name that stands in a text.
    allowed_mentions: { parse: [] },
    embeds: [
      {
        title: headline(message).slice(0, 256),
        ...(recovered || message.detail === ''
          ? {}
          : { description: message.detail.slice(0, 2000) }),
        ...(link === null ? {} : { url: link }),
        color: COLOURS[recovered ? 'recovered' : message.severity],
        footer: { text: facts(message).slice(0, 2000) },
      },
    ],
  };
}
