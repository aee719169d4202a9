import { CannotLook, type Finding, fail, messageOf, ok, type Rule, skipped } from '../rule.ts';

const SKEW_MAX_MS = 60_000;
const STRIPE_ORIGIN = 'https://api.stripe.com';
const ANSWER_MS = 8_000;
const NODE_MIN = [20, 19] as const;

/** The clock of whoever answers, as HTTP's Date header has it: whole seconds. */
async function skewOf(origin: string, nowMs: () => number): Promise<number> {
  const askedAt = nowMs();
  try {
    const response = await fetch(origin, {
      method: 'HEAD',
      redirect: 'manual',
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    const date = Date.parse(response.headers.get('date') ?? '');
    if (Number.isNaN(date)) throw new CannotLook(`${origin} does not tell its time.`);
    return (askedAt + nowMs()) / 2 - date;
  } catch (error) {
    if (error instanceof CannotLook) throw error;
    throw new CannotLook(`${origin} does not answer: ${messageOf(error)}.`, error);
  }
}

export const clockRule: Rule = {
  code: 'clock',
  title: 'All clocks agree within 60 s',
  async check(site) {
    const clocks: [name: string, skewMs: number][] = [];
    const unseen: string[] = [];
    const look = async (name: string, skew: () => Promise<number>) => {
      try {
        clocks.push([name, await skew()]);
      } catch (error) {
        if (!(error instanceof CannotLook)) throw error;
        unseen.push(name);
      }
    };
    await look('the database', async () => (await site.inspect()).skewMs);
    if (site.parts.stripe === 'stripe') {
      await look('Stripe', () => skewOf(site.values.STRIPE_API_BASE ?? STRIPE_ORIGIN, site.nowMs));
    }
    if (clocks.length === 0)
      return skipped(
        `No clock to compare with: ${unseen.join(' and ') || 'none'} could not be asked.`,
      );
    const findings = clocks.flatMap(([name, skewMs]): Finding[] => {
      if (Math.abs(skewMs) <= SKEW_MAX_MS) return [];
      const seconds = Math.round(Math.abs(skewMs) / 1000);
      return [
        fail(
          `This machine’s clock is ${seconds} s ${skewMs > 0 ? 'ahead of' : 'behind'} that of ${name}.`,
          'Turn time synchronisation on (timedatectl set-ntp true): signatures older than 5 minutes are refused.',
        ),
      ];
    });
    return findings.length > 0
      ? findings
      : ok(`Compared with ${clocks.map(([name]) => name).join(' and ')}.`);
  },
};

export const runtimeRule: Rule = {
  code: 'runtime',
  title: 'Node and the Supabase client fit',
  async check({ nodeVersion }) {
    const [major = 0, minor = 0] = nodeVersion.split('.').map(Number);
    if (major < NODE_MIN[0] || (major === NODE_MIN[0] && minor < NODE_MIN[1])) {
      return fail(
        `Node is ${nodeVersion}; Purser needs ${NODE_MIN.join('.')} or newer.`,
        'Install a current Node (nvm install --lts).',
      );
    }
    try {
      // Without a transport of its own the client throws where Node has no WebSocket.
      const { createSupabaseDatabase } = await import('../../../supabase/supabaseDatabase.ts');
      const database = createSupabaseDatabase({
        url: 'http://127.0.0.1:9',
        secretKey: 'sb_secret_doctor',
      });
      await database.close();
    } catch (error) {
      return fail(
        `The Supabase client does not start on Node ${nodeVersion}: ${messageOf(error)}`,
        'Install the pinned version again: npm ci.',
      );
    }
    return ok(`Node ${nodeVersion}; the Supabase client starts.`);
  },
};
