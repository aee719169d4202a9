/**
 * Where alerts may be posted: Slack's and Discord's own hosts over https, and, for tests and trials,
 * this machine. An address from a setting must not make Purser call what only Purser can reach.
 */
const HOSTS: Readonly<Record<'slack' | 'discord', readonly string[]>> = {
  slack: ['hooks.slack.com', 'hooks.slack-gov.com'],
  discord: ['discord.com', 'discordapp.com', 'canary.discord.com', 'ptb.discord.com'],
};

const LOOPBACK = new Set(['127.0.0.1', '[::1]', 'localhost']);

export type AlertChannel = keyof typeof HOSTS;

/** What is wrong with the address of a channel, reading on after its name; null = nothing. */
export function findAlertAddressFault(
  channel: AlertChannel,
  text: string,
  allowLoopback: boolean,
): string | null {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null) return 'is not a URL';
  if (url.username !== '' || url.password !== '') return 'has a user name or a password in it';
  if (LOOPBACK.has(url.hostname)) {
    return allowLoopback ? null : 'leads to this machine, which production refuses';
  }
  if (url.protocol !== 'https:') return 'is not an https address';
  if (!HOSTS[channel].includes(url.hostname) || url.port !== '') {
    return `does not lead to ${HOSTS[channel][0]}`;
  }
  return null;
}
