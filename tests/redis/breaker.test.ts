import { beforeEach, describe, expect, it } from '@jest/globals';
import { type Breaker, createBreaker, FAILURES_TO_OPEN, OPEN_MS } from '../../src/redis/breaker.ts';

describe('the breaker', () => {
  let now: number;
  let changes: string[];
  let breaker: Breaker;
  beforeEach(() => {
    now = 0;
    changes = [];
    breaker = createBreaker({ nowMs: () => now, onChange: (state) => void changes.push(state) });
  });

  function open(): void {
    for (let failure = 0; failure < FAILURES_TO_OPEN; failure += 1) {
      expect(breaker.allows()).toBe(true);
      breaker.failed();
    }
    expect(breaker.state).toBe('open');
  }

  it('opens after five failures in a row', () => {
    expect(FAILURES_TO_OPEN).toBe(5);
    open();
    expect(breaker.allows()).toBe(false);
    expect(changes).toEqual(['open']);
  });

  it('stays closed when a success comes between failures', () => {
    for (let round = 0; round < 10; round += 1) {
      for (let failure = 1; failure < FAILURES_TO_OPEN; failure += 1) breaker.failed();
      breaker.succeeded();
    }
    expect(breaker.state).toBe('closed');
    expect(changes).toEqual([]);
  });

  it('lets one caller through when its time is over, and nobody else meanwhile', () => {
    open();
    now = OPEN_MS - 1;
    expect(breaker.allows()).toBe(false);
    now = OPEN_MS;
    expect(breaker.allows()).toBe(true);
    expect(breaker.state).toBe('half_open');
    expect(breaker.allows()).toBe(false);
  });

  it('closes when the probe succeeds', () => {
    open();
    now = OPEN_MS;
    breaker.allows();
    breaker.succeeded();
    expect(breaker.state).toBe('closed');
    expect([breaker.allows(), breaker.allows()]).toEqual([true, true]);
    expect(changes).toEqual(['open', 'closed']);
    for (let failure = 1; failure < FAILURES_TO_OPEN; failure += 1) breaker.failed();
    expect(breaker.state).toBe('closed');
  });

  it('opens again, in silence, when the probe fails', () => {
    open();
    now = OPEN_MS;
    breaker.allows();
    breaker.failed();
    expect(breaker.state).toBe('open');
    now += OPEN_MS - 1;
    expect(breaker.allows()).toBe(false);
    now += 1;
    expect(breaker.allows()).toBe(true);
    expect(changes).toEqual(['open']);
  });

  it('gives the next period its own probe when one never ends', () => {
    open();
    now = OPEN_MS;
    breaker.allows();
    now += OPEN_MS;
    expect(breaker.allows()).toBe(true);
  });

  it('is not kept open by calls that began before and fail late', () => {
    open();
    now = OPEN_MS - 1;
    for (let failure = 0; failure < 100; failure += 1) breaker.failed();
    now = OPEN_MS;
    expect(breaker.allows()).toBe(true);
  });
});
