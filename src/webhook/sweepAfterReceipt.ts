import type { RunAfterResponse } from '../core/ports.ts';
import type { ProcessDeps } from './process.ts';
import { sweepInbox } from './sweep.ts';
import type { Webhook } from './webhook.types.ts';

/** Events taken up per webhook: what is due besides the event itself is little, or a backlog. */
const EVENTS_MAX = 16;
/** No further event is begun after this; platforms stop the process at 60 s. */
const SWEEP_MS_MAX = 20_000;

export type SweepDeps = ProcessDeps & { runAfterResponse: RunAfterResponse };

/**
 * For a platform without a process of its own, where nobody sweeps every two seconds: each webhook
 * also takes up a few due events of others, so that retries and bursts do not wait for the daily
 * tick. One sweep at a time in this process. A request for another while one runs is remembered,
 * for its event may have been committed after that one looked; so the last of a burst leaves
 * nothing behind.
 */
export function sweepAfterReceipt(webhook: Webhook, deps: SweepDeps): Webhook {
  let running: Promise<void> | null = null;
  let wanted = 0;

  async function sweep(): Promise<void> {
    const endsAt = deps.clock.now().getTime() + SWEEP_MS_MAX;
    const shouldStop = () => deps.clock.now().getTime() >= endsAt;
    try {
      while (wanted > 0 && !shouldStop()) {
        const eventsMax = wanted * EVENTS_MAX;
        wanted = 0;
        await sweepInbox(deps, shouldStop, eventsMax);
      }
    } catch (error) {
      // The events stay due; the next webhook or tick takes them up.
      deps.logger.warn('The inbox could not be swept', { error });
    } finally {
      wanted = 0;
      running = null;
    }
  }

  return {
    ...webhook,
    async receive(rawBody, signatureHeader) {
      const answer = await webhook.receive(rawBody, signatureHeader);
      wanted += 1;
      running ??= sweep();
      deps.runAfterResponse(running);
      return answer;
    },
    async idle() {
      await webhook.idle();
      await running;
    },
  };
}
