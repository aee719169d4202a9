import { describe, expect, it } from '@jest/globals';
import { openParts } from '../../src/compose/openParts.ts';

describe('parts opened side by side', () => {
  const stopped: string[] = [];
  const part = (name: string) => ({
    name,
    async stop() {
      stopped.push(name);
    },
  });

  it('come back in their order, whichever was ready first', async () => {
    let ready: (value: ReturnType<typeof part>) => void = () => {};
    const late = new Promise<ReturnType<typeof part>>((resolve) => {
      ready = resolve;
    });
    const opening = openParts([late, Promise.resolve(part('early'))]);
    ready(part('late'));
    expect((await opening).map(({ name }) => name)).toEqual(['late', 'early']);
    expect(stopped).toEqual([]);
  });

  it('are stopped, the last first, when one of them fails, also those that open later', async () => {
    let ready: (value: ReturnType<typeof part>) => void = () => {};
    const late = new Promise<ReturnType<typeof part>>((resolve) => {
      ready = resolve;
    });
    const failure = new Error('no database');
    const opening = openParts([late, Promise.reject(failure), Promise.resolve(part('redis'))]);
    ready(part('database'));
    await expect(opening).rejects.toBe(failure);
    expect(stopped).toEqual(['redis', 'database']);
  });
});
