import { useEffect, useRef } from 'react';
import { formatCredits } from '../money.ts';

const DURATION_MS = 900;

/**
 * Counts from one figure to another once. The true figure is in the text for screen readers from
 * the start, and all there is for people who asked for less motion.
 */
export function CountUp({ from, to }: { from: number; to: number }) {
  const figure = useRef<HTMLSpanElement>(null);

  useEffect(() => {
    const element = figure.current;
    if (!element || matchMedia('(prefers-reduced-motion: reduce)').matches) return;
    const started = performance.now();
    let frame = requestAnimationFrame(function draw(now) {
      const part = Math.min(1, Math.max(0, (now - started) / DURATION_MS));
      element.textContent = formatCredits(Math.round(to - (to - from) * (1 - part) ** 3));
      if (part < 1) frame = requestAnimationFrame(draw);
    });
    return () => {
      cancelAnimationFrame(frame);
      element.textContent = formatCredits(to);
    };
  }, [from, to]);

  return (
    <>
      <span className="sr-only">{formatCredits(to)}</span>
      <span ref={figure} aria-hidden="true" className="tabular-nums">
        {formatCredits(to)}
      </span>
    </>
  );
}
