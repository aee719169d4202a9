import { describe, expect, it } from '@jest/globals';
import { createCatalogue } from '../../src/catalogue/catalogue.ts';
import { defaultCatalogue } from '../../src/catalogue/defaultCatalogue.ts';
import { NOTIFICATION_KINDS } from '../../src/notifications/kinds.ts';
import { mailAddress, money, senderOf, webAddress } from '../../src/notifications/plainText.ts';
import { renderMail } from '../../src/notifications/renderMail.tsx';
import { SAMPLE_MAILS } from '../../src/notifications/sampleMails.ts';
import { startBrowser } from '../support/browser.ts';
import { describeWith } from '../support/requirements.ts';

const brand = {
  name: 'Acme Images',
  publicUrl: 'https://acme.example',
  support: 'help@acme.example',
};
const EVIL = '"><script>alert(1)</script><img src=x onerror=alert(1)>\r\nBcc: eve@example.com';

function sample(name: string, data: Record<string, unknown> = {}) {
  const found = SAMPLE_MAILS[name];
  if (found === undefined) throw new Error(`no sample ${name}`);
  return renderMail(found.kind, { ...found.data, ...data }, brand);
}

const hrefs = (html: string) => [...html.matchAll(/href="([^"]*)"/g)].map(([, href]) => href ?? '');

describe('each mail', () => {
  it('has a sample, and may be switched off in the catalogue', () => {
    const kinds = new Set(Object.values(SAMPLE_MAILS).map(({ kind }) => kind));
    expect([...kinds].sort()).toEqual([...NOTIFICATION_KINDS].sort());
    const off = [...NOTIFICATION_KINDS];
    expect(createCatalogue({ ...defaultCatalogue, mail: { off } }).mail).toMatchObject({
      off,
      lowBalance: null,
      expiringDays: null,
    });
  });

  it.each(Object.keys(SAMPLE_MAILS))('%s says the same in HTML and in text', async (name) => {
    const { subject, html, text } = await sample(name);
    expect(subject.length).toBeGreaterThan(10);
    expect(text).toContain('Acme Images');
    expect(text).toContain('help@acme.example');
    expect(text).not.toMatch(/<|undefined|null|NaN/);
    expect(html).not.toMatch(/undefined|NaN/);
    for (const href of hrefs(html)) {
      if (href.startsWith('http')) expect(text).toContain(href.replaceAll('&amp;', '&'));
    }
    const words = html.replaceAll(/<[^>]+>/g, ' ').replaceAll(/\s+/g, ' ');
    for (const line of text.split('\n').filter((each) => /^[A-Z][\w ]+: /.test(each))) {
      const [label = ''] = line.split(':');
      expect(words).toContain(label);
    }
  });

  it.each(Object.entries(SAMPLE_MAILS).map(([name, { data }]) => [name, data] as const))(
    '%s takes foreign text for text',
    async (name, data) => {
      const foreign = Object.fromEntries(
        Object.entries(data).map(([key, value]) => [
          key,
          ['plan_name', 'name', 'invoice_number', 'token'].includes(key) ? EVIL : value,
        ]),
      );
      const { subject, html } = await sample(name, foreign);
      expect(subject).not.toMatch(/[\r\n]/);
      expect(html).not.toMatch(/<script|<img/);
    },
  );

  it.each(['javascript:alert(1)', 'data:text/html,x', 'ftp://x', '//x', 'https://a:b@c.example'])(
    'leads nowhere by %s',
    async (url) => {
      const { html, text } = await sample('payment_receipt', {
        invoice_url: url,
        invoice_pdf: url,
      });
      expect(hrefs(html)).toEqual([
        'https://acme.example/account',
        'https://acme.example/account',
        'mailto:help@acme.example',
      ]);
      expect(text).not.toContain(url);
    },
  );

  it('names what is wrong with its data', async () => {
    await expect(renderMail('low_balance', { threshold: 'ten' }, brand)).rejects.toMatchObject({
      name: 'MailDataError',
      message: expect.stringContaining('threshold'),
    });
  });

  it('of a trial, a receipt and a claim says what they are about', async () => {
    expect((await sample('trial_ending')).text).toContain('$9.99 is charged');
    const receipt = (await sample('payment_receipt')).text;
    expect(receipt).toContain('Download as PDF: https://pay.stripe.com/invoice/example/pdf');
    expect(receipt).toContain('Your balance: 1,260 credits');
    expect((await sample('claim_link')).text).toContain(
      'https://acme.example/claim#purchase=example',
    );
    expect((await sample('low_balance', { available: 0 })).subject).toBe(
      'Your credits are used up',
    );
    expect((await sample('subscription_canceled_unpaid')).text).toContain('was not paid');
  });
});

describe('what stands in a mail', () => {
  it('is money as Stripe counts it', () => {
    expect(money(1800, 'usd')).toBe('$18.00');
    expect(money(1800, 'jpy')).toBe('¥1,800');
    expect(money(1800, 'kwd')).toBe('KWD\u00a01.800');
    expect(money(null, 'usd')).toBeNull();
    expect(money(1800, 'dollars')).toBeNull();
  });

  it('is an address of one mailbox, or none', () => {
    expect(mailAddress(' ada@example.com ')).toBe('ada@example.com');
    expect(mailAddress('jörg@exämple.com')).toBe('jörg@exämple.com');
    for (const bad of [
      '',
      'ada',
      'a@b, c@d',
      'a@b\r\nTo: c@d',
      '<a@b>',
      'a b@c',
      'a@b@c',
      'a@b;c',
    ]) {
      expect([bad, mailAddress(bad)]).toEqual([bad, null]);
    }
    expect(senderOf('"Acme, Inc." <b@acme.example>')).toEqual({
      name: 'Acme, Inc.',
      address: 'b@acme.example',
    });
    expect(senderOf('b@acme.example')).toEqual({ name: null, address: 'b@acme.example' });
    expect(webAddress('https://a.example/x?y=1#z')).toBe('https://a.example/x?y=1#z');
  });
});

/** What a reader sees first, measured in the page. */
const LOOK = `(() => {
  const colour = (selector) => getComputedStyle(document.querySelector(selector)).backgroundColor;
  const paper = [document.body, ...document.querySelectorAll('body > table td')].filter((one) =>
    one.closest('.card') === null && getComputedStyle(one).backgroundColor !== 'rgba(0, 0, 0, 0)');
  return {
    paper: [...new Set(paper.map((one) => getComputedStyle(one).backgroundColor))],
    band: colour('[class*="band-"]'),
    card: colour('.card'),
    width: document.documentElement.scrollWidth,
  };
})()`;

describeWith('chromium', 'in a browser', (executablePath) => {
  it('is told by its colour how grave it is, fits a phone, and is dark where readers want it', async () => {
    const browser = await startBrowser(executablePath);
    try {
      const page = await browser.openPage({ viewport: { width: 360, height: 700 } });
      const looks = async (name: string, colorScheme: 'light' | 'dark') => {
        await page.emulateMedia({ colorScheme });
        await page.setContent((await sample(name)).html);
        return (await page.evaluate(LOOK)) as {
          paper: string[];
          band: string;
          card: string;
          width: number;
        };
      };
      const light = new Map<string, Awaited<ReturnType<typeof looks>>>();
      for (const name of Object.keys(SAMPLE_MAILS)) light.set(name, await looks(name, 'light'));
      const urgencies = ['first', 'second', 'final'].map((each) =>
        light.get(`payment_failed_${each}`),
      );
      expect(new Set(urgencies.map((look) => look?.band)).size).toBe(3);
      expect(urgencies[2]?.band).toBe('rgb(179, 19, 27)');
      expect(urgencies[0]?.card).toBe('rgb(255, 255, 255)');
      expect(urgencies[0]?.paper).toEqual(['rgb(243, 245, 248)']);
      expect(await looks('payment_failed_first', 'dark')).toMatchObject({
        card: 'rgb(26, 31, 38)',
        paper: ['rgb(15, 18, 22)'],
      });
      expect([...light.values()].map(({ width }) => width)).toEqual([...light].map(() => 360));
    } finally {
      await browser.close();
    }
  });
});
