import { CannotLook, type Finding, fail, ok, type Rule } from '../rule.ts';
import type { Site } from '../site.ts';
import { isMissingSecret, told } from './settings.ts';

/** Survives being parsed and written again, so that only the secret decides. */
const PLAIN_BODY = '{"purser":"doctor"}';
/** Does not: whoever parses it and writes it again changes what was signed. */
const ODD_BODY = '{ "purser":\n\t"doctor" ,  "n": 1.0 }';

/** Errors: `CannotLook` where there is no secret to sign with. */
function secretsOf(site: Site): readonly string[] {
  site.stripe();
  if (site.isWrong('STRIPE_WEBHOOK_SECRET')) {
    throw new CannotLook('STRIPE_WEBHOOK_SECRET is wrong; see "settings".');
  }
  const secrets = site.values.STRIPE_WEBHOOK_SECRET;
  if (secrets === undefined) throw new CannotLook('STRIPE_WEBHOOK_SECRET is not set.');
  return secrets;
}

export const webhookSecretRule: Rule = {
  code: 'webhook-secret',
  title: 'The server accepts what our secret signs',
  async check(site) {
    const missing = site.problems.filter(isMissingSecret);
    if (missing.length > 0) return missing.map(told);
    const findings: Finding[] = [];
    const secrets = secretsOf(site);
    for (const [index, secret] of secrets.entries()) {
      const { accepted, detail } = await site.probe.signed(secret, PLAIN_BODY);
      const which =
        secrets.length === 1
          ? 'STRIPE_WEBHOOK_SECRET'
          : `Secret ${index + 1} of STRIPE_WEBHOOK_SECRET`;
      findings.push(
        accepted
          ? ok(`${which} is the one the server checks with.`)
          : fail(
              `${which} signed a test, and ${site.webhookUrl} refused it: ${detail}`,
              'Set the same secret here and on the server: the signing secret (whsec_...) of this endpoint, not that of another one or of `stripe listen`. Then restart the server.',
            ),
      );
    }
    return findings;
  },
};

export const rawBodyRule: Rule = {
  code: 'raw-body',
  title: 'Nothing changes a body before its signature is checked',
  async check(site) {
    const [secret = ''] = secretsOf(site);
    if (!(await site.probe.signed(secret, PLAIN_BODY)).accepted) {
      throw new CannotLook('The secret itself is refused; see "webhook-secret".');
    }
    const { accepted } = await site.probe.signed(secret, ODD_BODY);
    return accepted
      ? ok('A body with odd white space arrives as it was signed.')
      : fail(
          'A body with odd white space is refused while the same without is accepted: something parses it and writes it anew.',
          'Let the proxy, platform or middleware in front of /api/webhooks/stripe pass the bytes on as they came (no JSON parser, no body transformation).',
        );
  },
};
