import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { Redis } from '@upstash/redis';
import { type RedisServer, startRedisServer } from '../support/redisServer.ts';
import { describeWith } from '../support/requirements.ts';
import { startUpstashServer, type UpstashServer } from '../support/upstashServer.ts';

/** The stand-in proves nothing unless the official client, as anybody sets it up, believes it. */
describeWith('redis-server', 'the Upstash stand-in', (program) => {
  let server: RedisServer;
  let upstash: UpstashServer;
  let redis: Redis;
  beforeAll(async () => {
    server = await startRedisServer({ program });
    upstash = await startUpstashServer({ redisPort: server.port });
    redis = new Redis({ url: upstash.url, token: upstash.token });
  });
  afterAll(async () => {
    await upstash.close();
    await server.stop();
  });
  const post = (path: string, body?: string, headers: Record<string, string> = {}) =>
    fetch(`${upstash.url}${path}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${upstash.token}`, ...headers },
      ...(body === undefined ? {} : { body }),
    });

  it('serves the official client with its defaults', async () => {
    await redis.set('text', 'abcd');
    await redis.hset('hash', { name: 'ü', count: 3 });
    expect(await Promise.all([redis.get('text'), redis.hgetall('hash')])).toEqual([
      'abcd',
      { name: 'ü', count: 3 },
    ]);
    expect(await redis.pipeline().incr('n').get('n').exec()).toEqual([1, 1]);
    expect(await redis.multi().incr('n').get('n').exec()).toEqual([2, 2]);
    expect(await redis.createScript('return ARGV[1]').exec([], ['x'])).toBe('x');
    expect(await redis.scan(0, { match: 'te*' })).toEqual(['0', ['text']]);
  });

  it('takes commands as a body, as a path, and as a path with a body', async () => {
    expect(await (await post('/', '["SET","a","1","EX",100]')).json()).toEqual({ result: 'OK' });
    expect(await (await post('/get/a')).json()).toEqual({ result: '1' });
    expect(await (await post('/set/b', 'from body')).json()).toEqual({ result: 'OK' });
    const answer = await fetch(`${upstash.url}/get/b?_token=${upstash.token}`);
    expect(await answer.json()).toEqual({ result: 'from body' });
  });

  it('encodes strings in base64 on request, all but OK', async () => {
    const headers = { 'upstash-encoding': 'base64' };
    const set = await post('/', '["SET","a","1"]', headers);
    expect(await set.json()).toEqual({ result: 'OK' });
    const get = await post('/pipeline', '[["GET","a"],["GET","none"],["INCR","a"]]', headers);
    expect(await get.json()).toEqual([{ result: 'MQ==' }, { result: null }, { result: 2 }]);
  });

  it('answers errors as Upstash does', async () => {
    const failed = await post('/', '["INCR","text"]');
    expect(failed.status).toBe(400);
    expect(await failed.json()).toEqual({ error: expect.stringMatching(/^ERR value is not/) });
    const mixed = await post('/pipeline', '[["INCR","text"],["PING"]]');
    expect(mixed.status).toBe(200);
    expect(await mixed.json()).toEqual([{ error: expect.any(String) }, { result: 'PONG' }]);
    const broken = await post('/multi-exec', '[["SET","a"],["PING"]]');
    expect(broken.status).toBe(400);
    expect(await broken.json()).toEqual({ error: expect.stringMatching(/^EXECABORT/) });
    expect((await post('/', 'no json')).status).toBe(400);
    const stranger = await post('/pipeline', '[["PING"]]', { authorization: 'Bearer x' });
    expect(stranger.status).toBe(401);
  });

  it('executes and drops the reply, as the client’s own retries show', async () => {
    upstash.setFault('drop_reply', 1);
    expect(await redis.incr('twice')).toBe(2);
  });
});
