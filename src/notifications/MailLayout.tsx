import {
  Body,
  Button,
  Column,
  Container,
  Head,
  Heading,
  Hr,
  Html,
  Link,
  Preview,
  Row,
  Section,
  Text,
} from '@react-email/components';
import type { Brand, MailContent } from './mailContent.ts';
import { webAddress } from './plainText.ts';

/**
 * One look for every mail. Inline styles are what all clients read; the classes are for those that
 * know dark mode. `solid` fills the band above the heading, so that the gravest mails are told by
 * their colour before a word is read.
 */
const TONES = {
  calm: { ink: '#1d4ed8', wash: '#eff4ff', solid: false },
  good: { ink: '#15703a', wash: '#edf9f1', solid: false },
  warning: { ink: '#92500a', wash: '#fff6e5', solid: false },
  urgent: { ink: '#c2410c', wash: '#c2410c', solid: true },
  final: { ink: '#b3131b', wash: '#b3131b', solid: true },
} as const satisfies Record<MailContent['tone'], { ink: string; wash: string; solid: boolean }>;

/** The colour of buttons and links on Purser's pages. */
const BRAND_INK = '#0b6b53';

const FONT =
  "-apple-system, BlinkMacSystemFont, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";

/**
 * Clients that know it turn the paper dark; bands of the grave tones stay as they are. React Email
 * repeats the body's colour in a cell around everything, which has no class of its own.
 */
const STYLES = `
:root { color-scheme: light dark; supported-color-schemes: light dark; }
@media (max-width: 480px) { .pad { padding-left: 20px !important; padding-right: 20px !important; } }
@media (prefers-color-scheme: dark) {
  .paper, .paper > table > tbody > tr > td { background-color: #0f1216 !important; }
  .card { background-color: #1a1f26 !important; border-color: #2c343f !important; }
  .ink { color: #f1f4f8 !important; }
  .soft { color: #a3aebb !important; }
  .line { border-color: #2c343f !important; }
  .band-calm { background-color: #16233f !important; color: #9dc0ff !important; }
  .band-good { background-color: #12301f !important; color: #8ee0ac !important; }
  .band-warning { background-color: #3a2a0c !important; color: #ffd08a !important; }
  .link { color: #58d3ae !important; }
}`;

export function MailLayout({ content, brand }: { content: MailContent; brand: Brand }) {
  const tone = TONES[content.tone];
  const text = { fontFamily: FONT, fontSize: '16px', lineHeight: '25px', color: '#1c232b' };
  const soft = { ...text, fontSize: '14px', lineHeight: '21px', color: '#5b6673' };
  return (
    <Html lang="en" dir="ltr">
      <Head>
        <meta name="color-scheme" content="light dark" />
        <meta name="supported-color-schemes" content="light dark" />
        <title>{content.subject}</title>
        <style>{STYLES}</style>
      </Head>
      <Body className="paper" style={{ backgroundColor: '#f3f5f8', margin: 0, padding: 0 }}>
        <Preview>{content.preview}</Preview>
        <Container
          className="paper"
          style={{ maxWidth: '560px', width: '100%', padding: '28px 12px' }}
        >
          <Text
            className="ink"
            style={{ ...text, fontSize: '17px', fontWeight: 700, margin: '0 0 16px 4px' }}
          >
            {brand.name}
          </Text>
          <Section
            className="card"
            style={{
              backgroundColor: '#ffffff',
              border: '1px solid #e0e5eb',
              borderRadius: '12px',
              overflow: 'hidden',
            }}
          >
            <Section
              className={`pad band-${content.tone}`}
              style={{
                backgroundColor: tone.wash,
                color: tone.solid ? '#ffffff' : tone.ink,
                padding: tone.solid ? '16px 32px' : '12px 32px',
                fontFamily: FONT,
                fontSize: tone.solid ? '16px' : '14px',
                lineHeight: '20px',
                fontWeight: 700,
              }}
            >
              {content.label}
            </Section>
            <Section className="pad" style={{ padding: '26px 32px 30px' }}>
              <Heading
                as="h1"
                className="ink"
                style={{
                  ...text,
                  fontSize: '24px',
                  lineHeight: '31px',
                  fontWeight: 700,
                  margin: '0 0 14px',
                }}
              >
                {content.heading}
              </Heading>
              {content.paragraphs.map((paragraph) => (
                <Text key={paragraph} className="ink" style={{ ...text, margin: '0 0 14px' }}>
                  {paragraph}
                </Text>
              ))}
              <Facts facts={content.facts} soft={soft} text={text} />
              {content.action === null ? null : (
                <Button
                  href={content.action.url}
                  style={{
                    backgroundColor: tone.solid ? tone.ink : BRAND_INK,
                    color: '#ffffff',
                    fontFamily: FONT,
                    fontSize: '16px',
                    fontWeight: 600,
                    lineHeight: '20px',
                    borderRadius: '8px',
                    padding: '13px 24px',
                    marginTop: '10px',
                    textDecoration: 'none',
                  }}
                >
                  {content.action.label}
                </Button>
              )}
              {content.links.length === 0 ? null : (
                <Text style={{ ...text, margin: '18px 0 0' }}>
                  {content.links.map(({ label, url }, place) => (
                    <span key={label}>
                      {place === 0 ? null : <span className="soft"> &nbsp;·&nbsp; </span>}
                      <Link href={url} className="link" style={{ color: BRAND_INK }}>
                        {label}
                      </Link>
                    </span>
                  ))}
                </Text>
              )}
            </Section>
          </Section>
          <Text className="soft" style={{ ...soft, fontSize: '13px', margin: '18px 4px 0' }}>
            {content.reason} <Support brand={brand} />
          </Text>
        </Container>
      </Body>
    </Html>
  );
}

function Facts({
  facts,
  soft,
  text,
}: {
  facts: MailContent['facts'];
  soft: React.CSSProperties;
  text: React.CSSProperties;
}) {
  if (facts.length === 0) return null;
  return (
    <Section style={{ margin: '6px 0 14px' }}>
      {facts.map(([label, value]) => (
        <Section key={label}>
          <Hr className="line" style={{ borderColor: '#e6eaef', margin: 0 }} />
          <Row>
            <Column
              className="soft"
              style={{ ...soft, padding: '9px 12px 9px 0', width: '40%', verticalAlign: 'top' }}
            >
              {label}
            </Column>
            <Column
              className="ink"
              style={{
                ...text,
                fontSize: '15px',
                lineHeight: '21px',
                fontWeight: 600,
                padding: '9px 0',
                textAlign: 'right',
                wordBreak: 'break-word',
                verticalAlign: 'top',
              }}
            >
              {value}
            </Column>
          </Row>
        </Section>
      ))}
    </Section>
  );
}

function Support({ brand: { support } }: { brand: Brand }) {
  if (support === null) return null;
  const url = webAddress(support);
  return (
    <>
      Questions?{' '}
      <Link href={url ?? `mailto:${support}`} className="link" style={{ color: BRAND_INK }}>
        {url === null ? support : 'Get help'}
      </Link>
    </>
  );
}
