import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { findAlertAddressFault } from '../../src/core/alertAddress.ts';
import { createAlertPosters } from '../../src/notifications/alertChannels.ts';
import { type HttpRecorder, json, startHttpRecorder } from '../support/httpRecorder.ts';
import { BRAND, outboxWorld } from './outboxWorld.ts';

const world = outboxWorld();
let slack: HttpRecorder;
let discord: HttpRecorder;
const posters = () =>
  createAlertPosters({
    slackUrl: `${slack.url}/services/T/B/x`,
    discordUrl: `${discord.url}/api/webhooks/1/x`,
    publicUrl: () => BRAND.publicUrl,
    allowLoopback: true,
  });
const send = () => world.send({ posters: posters() });
const drift = {
  code: 'drift',
  subject: 'user u1',
  severity: 'critical',
  title: 'A balance does not fit its entries',
  detail: 'Look at <b>u1</b> & <!channel>.',
  link: '/api/admin/alerts',
} as const;
const texts = () => slack.requests.map(({ body }) => body.text);

beforeEach(async () => {
  slack = await startHttpRecorder();
  discord = await startHttpRecorder(json(204, null));
});
afterEach(async () => {
  await slack.stop();
  await discord.stop();
});

describe('an alert', () => {
  it('is told once when it opens and once when it ends, to each channel', async () => {
    expect((await world.alerts.raise(drift)).outcome).toBe('opened');
    expect((await world.alerts.raise(drift)).outcome).toBe('seen');
    await send();
    await send();
    expect(await world.alerts.resolve('drift', 'user u1')).toEqual({ outcome: 'resolved' });
    expect(await world.alerts.resolve('drift', 'user u1')).toEqual({ outcome: 'unchanged' });
    await send();
    expect(texts()).toEqual([
      'Critical: A balance does not fit its entries',
      'Recovered: A balance does not fit its entries',
    ]);
    expect(discord.requests.map(({ body }) => body.embeds[0].title)).toEqual(texts());
    expect(await world.alerts.list()).toMatchObject([
      { code: 'drift', subject: 'user u1', status: 'resolved', times: 2 },
    ]);
    expect(await world.alerts.list({ status: 'open' })).toEqual([]);
  });

  it('calls nobody by what stands in its text, and leads to a page of ours', async () => {
    await world.alerts.raise(drift);
    await send();
    const [section] = slack.requests[0]?.body.blocks ?? [];
    expect(section.text.text).toContain('Look at &lt;b&gt;u1&lt;/b&gt; &amp; &lt;!channel&gt;.');
    expect(section.text.text).toContain('<https://credits.example.com/api/admin/alerts|Open>');
    expect(discord.requests[0]?.body).toMatchObject({
      allowed_mentions: { parse: [] },
      embeds: [{ url: 'https://credits.example.com/api/admin/alerts', color: 0xb3131b }],
    });
  });

  it('is another one for another subject', async () => {
    await world.alerts.raise(drift);
    await world.alerts.raise({ ...drift, subject: 'user u2' });
    await send();
    expect(texts()).toHaveLength(2);
  });

  it('is told again while it stays open, a day later and not before', async () => {
    const at = (hours: number) =>
      new Date(Date.parse('2030-01-01T00:00:00Z') + hours * 3_600_000).toISOString();
    const raise = (hours: number) =>
      world.call('raise_alert', { p_alert: { ...drift }, p_now: at(hours) });
    expect(await raise(0)).toMatchObject({ outcome: 'opened' });
    expect(await raise(23)).toMatchObject({ outcome: 'seen' });
    expect(await raise(24)).toMatchObject({ outcome: 'reminded' });
    expect(await raise(25)).toMatchObject({ outcome: 'seen' });
    await world.letTimePass();
    await send();
    expect(texts()).toEqual([
      'Critical: A balance does not fit its entries',
      'Still open: A balance does not fit its entries',
    ]);
  });

  it('that goes on and off rings once an hour', async () => {
    for (let round = 0; round < 5; round += 1) {
      await world.alerts.raise(drift);
      await send();
      await world.alerts.resolve('drift', 'user u1');
      await send();
    }
    expect(texts()).toEqual([
      'Critical: A balance does not fit its entries',
      'Recovered: A balance does not fit its entries',
    ]);
    // Open when the hour is over: now it is told.
    await world.alerts.raise(drift);
    await send();
    expect(texts()).toHaveLength(2);
    await world.letTimePass();
    await send();
    expect(texts().at(-1)).toBe('Critical: A balance does not fit its entries');
    expect(texts()).toHaveLength(3);
  });

  it('that nobody resolves ends when it was not seen for long enough', async () => {
    await world.alerts.raise({ ...drift, quietSeconds: 3600 });
    await send();
    await world.query(
      `begin; set local role purser_ledger;
       update alerts set last_seen_at = last_seen_at - interval '61 minutes'; reset role; commit`,
    );
    await send();
    expect(texts().at(-1)).toBe('Recovered: A balance does not fit its entries');
    expect(await world.alerts.list({ status: 'open' })).toEqual([]);
  });

  it('is one, however many processes raise it at once', async () => {
    const answers = await Promise.all(Array.from({ length: 10 }, () => world.alerts.raise(drift)));
    expect(answers.filter(({ outcome }) => outcome === 'opened')).toHaveLength(1);
    await send();
    expect(texts()).toHaveLength(1);
  });
});

describe('a channel', () => {
  it('that fails gets it later, and the other does not get it twice', async () => {
    discord.reply = json(500, { message: 'oops' });
    await world.alerts.raise(drift);
    expect(await send()).toMatchObject({ failed: 1 });
    discord.reply = json(204, null);
    await world.letTimePass();
    expect(await send()).toMatchObject({ sent: 1 });
    expect(slack.requests).toHaveLength(1);
    expect(discord.requests).toHaveLength(2);
  });

  it('is not followed to another address', async () => {
    slack.reply = (response) =>
      response.writeHead(302, { location: `${discord.url}/elsewhere` }).end();
    await world.alerts.raise(drift);
    expect(await send()).toMatchObject({ failed: 1 });
    expect(discord.requests.map(({ path }) => path)).toEqual(['/api/webhooks/1/x']);
  });

  it('that is not set leaves the alert where people read it', async () => {
    await world.alerts.raise(drift);
    expect(await world.send()).toMatchObject({ kept: 1 });
    expect(await world.alerts.list({ status: 'open' })).toHaveLength(1);
  });

  it.each([
    ['slack', 'https://hooks.slack.com/services/T/B/x', null],
    ['discord', 'https://discord.com/api/webhooks/1/x', null],
    ['discord', 'https://discordapp.com/api/webhooks/1/x', null],
    ['slack', 'https://discord.com/api/webhooks/1/x', 'does not lead to hooks.slack.com'],
    ['slack', 'http://hooks.slack.com/services/T', 'is not an https address'],
    ['slack', 'https://hooks.slack.com.evil.example/x', 'does not lead to hooks.slack.com'],
    ['slack', 'https://hooks.slack.com:8443/x', 'does not lead to hooks.slack.com'],
    ['slack', 'https://hooks.slack.com@10.0.0.1/x', 'has a user name or a password in it'],
    ['slack', 'https://169.254.169.254/latest/meta-data', 'does not lead to hooks.slack.com'],
    ['slack', 'http://127.0.0.1:5432/', 'leads to this machine, which production refuses'],
    ['slack', 'http://[::1]/', 'leads to this machine, which production refuses'],
    ['discord', 'file:///etc/passwd', 'is not an https address'],
    ['discord', 'nonsense', 'is not a URL'],
  ] as const)('%s at %s: %p', (channel, url, fault) => {
    expect(findAlertAddressFault(channel, url, false)).toBe(fault);
  });

  it('of another address is never called, whatever the settings let through', async () => {
    const [poster] = createAlertPosters({
      slackUrl: slack.url,
      discordUrl: null,
      publicUrl: () => BRAND.publicUrl,
      allowLoopback: false,
    });
    const message = {
      ...drift,
      event: 'opened',
      times: 1,
      opened_at: '',
      resolved_at: null,
    } as const;
    await expect(poster?.post(message)).rejects.toMatchObject({ permanent: true });
    expect(slack.requests).toEqual([]);
  });
});
