/** What every adapter of the RedisStore port keeps; each one is run through the same claims. */
import { beforeEach, describe, expect, it } from '@jest/globals';
import type { MirrorRecord, RedisStore } from '../../src/core/ports.ts';

export interface ContractSubject {
  store: RedisStore;
  /** Makes everything be gone. */
  flush(): Promise<void>;
  /** Lets a marker's time run out. */
  expire(key: string): Promise<void>;
}

export const mirrorRecord = (fields: Partial<MirrorRecord> = {}): MirrorRecord => ({
  ledger: 'b0b6d2a5-6a5c-4a4f-9a63-8f4b7f6f2c11',
  version: 1,
  balance: 50,
  held: 0,
  available: 50,
  suspended: false,
  valid_until: null,
  ...fields,
});

export const OTHER_LEDGER = 'c1b6d2a5-6a5c-4a4f-9a63-8f4b7f6f2c22';

const AWKWARD_IDS = ['550e8400-e29b-41d4-a716-446655440000', 'a}b{c:d *?[x]', 'ü\n💶', '%7D', 'OK'];

/** Declares the claims; `subject` gives what `beforeAll` of the caller has opened. */
export function describeRedisContract(name: string, subject: () => ContractSubject): void {
  describe(`the ${name} adapter`, () => {
    let store: RedisStore;
    beforeEach(async () => {
      store = subject().store;
      await subject().flush();
    });

    it('misses what was never written', async () => {
      expect(await store.readMirror('u1')).toBeNull();
    });

    it('reads back every field', async () => {
      const written = mirrorRecord({
        version: 7,
        balance: -3,
        held: 2,
        available: -5,
        suspended: true,
        valid_until: 1_790_000_000_000,
      });
      expect(await store.writeMirror('u1', written)).toEqual({ outcome: 'applied' });
      expect(await store.readMirror('u1')).toEqual(written);
    });

    it.each(AWKWARD_IDS)('keeps the user %j apart from all others', async (userId) => {
      await store.writeMirror(userId, mirrorRecord({ balance: 5 }));
      await store.writeMirror(`${userId}x`, mirrorRecord({ balance: 6 }));
      expect((await store.readMirror(userId))?.balance).toBe(5);
      await store.deleteMirror(userId);
      expect(await store.readMirror(userId)).toBeNull();
      expect((await store.readMirror(`${userId}x`))?.balance).toBe(6);
    });

    it('keeps the newer version, whatever the order of arrival', async () => {
      await store.writeMirror('u1', mirrorRecord({ version: 5, balance: 10 }));
      expect(await store.writeMirror('u1', mirrorRecord({ version: 4, balance: 99 }))).toEqual({
        outcome: 'stale',
        storedVersion: 5,
      });
      expect((await store.readMirror('u1'))?.balance).toBe(10);
      expect(await store.writeMirror('u1', mirrorRecord({ version: 6, balance: 3 }))).toEqual({
        outcome: 'applied',
      });
      expect((await store.readMirror('u1'))?.balance).toBe(3);
    });

    it('says that the very same copy was there', async () => {
      const record = mirrorRecord({ version: 5, valid_until: 1_790_000_000_000 });
      await store.writeMirror('u1', record);
      expect(await store.writeMirror('u1', record)).toEqual({ outcome: 'equal' });
    });

    it('lets the ledger mend a copy of the same version with other values', async () => {
      await store.writeMirror('u1', mirrorRecord({ version: 5, balance: 99 }));
      expect(await store.writeMirror('u1', mirrorRecord({ version: 5, balance: 10 }))).toEqual({
        outcome: 'applied',
      });
      expect((await store.readMirror('u1'))?.balance).toBe(10);
    });

    it('compares versions as numbers up to 2^53 - 1', async () => {
      const max = Number.MAX_SAFE_INTEGER;
      await store.writeMirror('u1', mirrorRecord({ version: max - 1, balance: max }));
      const last = mirrorRecord({ version: max, balance: -max });
      expect(await store.writeMirror('u1', last)).toEqual({ outcome: 'applied' });
      expect(await store.writeMirror('u1', mirrorRecord({ version: 10 }))).toEqual({
        outcome: 'stale',
        storedVersion: max,
      });
      expect(await store.readMirror('u1')).toEqual(last);
    });

    it('overwrites the copy of another ledger, even with a lower version', async () => {
      await store.writeMirror('u1', mirrorRecord({ version: 900 }));
      const other = mirrorRecord({ ledger: OTHER_LEDGER, version: 1, balance: 5 });
      expect(await store.writeMirror('u1', other)).toEqual({ outcome: 'applied' });
      expect(await store.readMirror('u1')).toEqual(other);
    });

    it('ends with the newest of many writes at once', async () => {
      const versions = Array.from({ length: 200 }, (_, index) => ((index * 71) % 200) + 1);
      await Promise.all(
        versions.map((version) =>
          store.writeMirror('u1', mirrorRecord({ version, balance: version })),
        ),
      );
      expect(await store.readMirror('u1')).toEqual(mirrorRecord({ version: 200, balance: 200 }));
    });

    it('writes many copies in one go, each with its own outcome', async () => {
      await store.writeMirror('u2', mirrorRecord({ version: 9 }));
      await store.writeMirror('u3', mirrorRecord({ version: 2 }));
      const copies = ['u1', 'u2', 'u3'].map((userId) => ({
        userId,
        record: mirrorRecord({ version: 2 }),
      }));
      expect(await store.writeMirrors(copies)).toEqual([
        { outcome: 'applied' },
        { outcome: 'stale', storedVersion: 9 },
        { outcome: 'equal' },
      ]);
      expect(await store.writeMirrors([])).toEqual([]);
    });

    it('reads many copies in one go, in the order asked for', async () => {
      await store.writeMirror('u1', mirrorRecord({ version: 9 }));
      await store.writeMirror('u3', mirrorRecord({ version: 2, balance: 7 }));
      expect(await store.readMirrors(['u3', 'u2', 'u1'])).toEqual([
        mirrorRecord({ version: 2, balance: 7 }),
        null,
        mirrorRecord({ version: 9 }),
      ]);
      expect(await store.readMirrors([])).toEqual([]);
    });

    it('removes a copy only while it is the one that was seen', async () => {
      const record = mirrorRecord({ version: 9 });
      await store.writeMirror('u1', record);
      const { ledger } = record;
      expect(await store.removeMirror('u1', { ledger, version: 8 })).toBe('stale');
      expect(await store.removeMirror('u1', { ledger: OTHER_LEDGER, version: 9 })).toBe('stale');
      expect(await store.readMirror('u1')).toEqual(record);
      expect(await store.removeMirror('u1', { ledger, version: 9 })).toBe('applied');
      expect(await store.readMirror('u1')).toBeNull();
      expect(await store.removeMirror('u1', { ledger, version: 9 })).toBe('stale');
    });

    it('meets every copy in a scan, with what is needed to remove it', async () => {
      const users = [...AWKWARD_IDS, ...Array.from({ length: 1500 }, (_, index) => `s${index}`)];
      const record = mirrorRecord({ version: 3 });
      for (let start = 0; start < users.length; start += 500) {
        const page = users.slice(start, start + 500);
        await store.writeMirrors(page.map((userId) => ({ userId, record })));
      }
      await store.setMarker('processed:cs_1', 60);
      const met = new Map<string, unknown>();
      let cursor: string | null = null;
      do {
        const page = await store.scanMirrors(cursor);
        for (const { userId, seen } of page.copies) met.set(userId, seen);
        cursor = page.cursor;
      } while (cursor !== null);
      expect([...met.keys()].sort()).toEqual([...users].sort());
      expect(new Set([...met.values()].map((seen) => JSON.stringify(seen)))).toEqual(
        new Set([JSON.stringify({ ledger: record.ledger, version: 3 })]),
      );
    });

    it('moves a cursor only from where it was seen', async () => {
      expect(await store.readCursor('job')).toBeNull();
      expect(await store.moveCursor('job', null, '{"a":1}')).toBe('applied');
      expect(await store.moveCursor('job', null, 'x')).toBe('stale');
      expect(await store.moveCursor('job', 'y', 'x')).toBe('stale');
      expect(await store.moveCursor('job', '{"a":1}', 'b')).toBe('applied');
      expect(await store.readCursor('job')).toBe('b');
      expect(await store.readCursor('other')).toBeNull();
    });

    it('sets a marker once until its time is over', async () => {
      expect(await store.setMarker('processed:cs_1', 60)).toBe(true);
      expect(await store.setMarker('processed:cs_1', 60)).toBe(false);
      expect(await store.hasMarker('processed:cs_1')).toBe(true);
      expect(await store.hasMarker('processed:cs_2')).toBe(false);
      await subject().expire('processed:cs_1');
      expect(await store.hasMarker('processed:cs_1')).toBe(false);
      expect(await store.setMarker('processed:cs_1', 60)).toBe(true);
      await store.deleteMarker('processed:cs_1');
      expect(await store.hasMarker('processed:cs_1')).toBe(false);
    });

    it('lets one of many setters of a marker win', async () => {
      const wins = await Promise.all(
        Array.from({ length: 20 }, () => store.setMarker('processing:cs_1', 60)),
      );
      expect(wins.filter(Boolean)).toHaveLength(1);
    });

    it('counts in a window that ends, each key by itself', async () => {
      for (const count of [1, 2, 3]) {
        const counted = await store.countInWindow('purser:limit:a', 60);
        expect(counted.count).toBe(count);
        expect(Number.isInteger(counted.resetsInSeconds)).toBe(true);
        expect(counted.resetsInSeconds).toBeGreaterThan(0);
        expect(counted.resetsInSeconds).toBeLessThanOrEqual(60);
      }
      expect((await store.countInWindow('purser:limit:b', 60)).count).toBe(1);
      await subject().expire('purser:limit:a');
      expect(await store.countInWindow('purser:limit:a', 60)).toEqual({
        count: 1,
        resetsInSeconds: 60,
      });
    });

    it('counts each one of many at once', async () => {
      const counted = await Promise.all(
        Array.from({ length: 20 }, () => store.countInWindow('purser:limit:a', 60)),
      );
      const counts = counted.map(({ count }) => count).sort((a, b) => a - b);
      expect(counts).toEqual(Array.from({ length: 20 }, (_, index) => index + 1));
    });

    it('shortens a window that would last longer than it may', async () => {
      await store.countInWindow('purser:limit:a', 3600);
      const { count, resetsInSeconds } = await store.countInWindow('purser:limit:a', 60);
      expect(count).toBe(2);
      expect(resetsInSeconds).toBeLessThanOrEqual(60);
    });

    it('answers a ping', async () => {
      await store.ping();
    });
  });
}
