// Failure policy: what clients see when the router is away, fails, or answers what may not leave.
import assert from 'node:assert/strict';
import { rejection, until } from '../world.mjs';

const INTERNAL = { code: 100, message: 'internal server error', temporary: true };

export const cases = {
  'C25 without a router a client is told 100 and comes back, a one-way client is closed with 3004': (w) =>
    w.relay.alone(async () => {
      await w.relay.down();
      const raw = await w.raw(w.down.url).open();
      assert.deepEqual((await raw.call({ connect: {} })).error, INTERNAL);
      const uni = await w.raw(w.down.uniUrl).open();
      uni.socket.send('{}');
      await until('the close', () => uni.closed);
      assert.equal(uni.closed.code, 3004);

      const client = w.client(w.down);
      client.sdk.connect();
      await client.wait('error', { type: 'connect' }, 10_000, 3);
      const errors = client.all('error', { type: 'connect' });
      assert.ok(errors.every(({ error }) => error.code === 100 && error.temporary), JSON.stringify(errors));
      for (const [index, { at }] of errors.slice(1).entries()) {
        assert.ok(at - errors[index].at >= 100, 'attempts keep the least delay apart');
      }
      assert.equal(client.all('disconnected').length, 0);
      await w.relay.up();
      await client.wait('connected', {}, 15_000);
    }),

  'C26 without a router publish and rpc fail with 100, and a subscription is tried until it is back': (w) =>
    w.relay.alone(async () => {
      const client = await w.connected(w.down, undefined);
      const channel = w.name('chat:');
      await client.sdk.publish(channel, {});
      await client.rpc('warm');
      await w.relay.down();
      assert.equal((await rejection(client.sdk.publish(channel, {}))).code, 100);
      assert.equal((await rejection(client.rpc('gone'))).code, 100);
      const sub = client.subscribe(channel);
      const error = await sub.wait('error', { type: 'subscribe' }, 10_000, 2);
      assert.equal(error.error.code, 100);
      assert.equal(sub.all('unsubscribed').length, 0);
      await w.relay.up();
      await sub.wait('subscribed', {}, 15_000);
      assert.equal(client.all('connected').length, 1, 'the connection has survived');
    }),

  'C27 without a router at refresh time the connection survives and is asked for again 60 s later': async (w) => {
    let client;
    // Before and after the refresh that failed: nobody sees it at once.
    let before;
    let missed;
    await w.relay.alone(async () => {
      client = await w.connected(w.down, { do: 'result', result: { user: 'u27', expire_in: 2 } });
      await w.relay.down();
      const failed = () => w.down.metric('centrifugo_proxy_errors', { type: 'refresh' });
      const count = await failed();
      before = Date.now();
      await until('a failed refresh', async () => (await failed()) > count, 10_000);
      missed = Date.now();
    });
    const asked = await w.journal.wait({ event: 'refresh', client: client.id, phase: 'begin' }, 80_000);
    const later = [missed, before].map((from) => (asked.at - from) / 1000);
    assert.ok(later[1] > 57 && later[0] < 66, `asked again after ${later[0]} to ${later[1]} s`);
    assert.equal(client.all('connected').length, 1);
    assert.equal(client.sdk.state, 'connected');
  },

  'C28 a refusal is a reply with its code, since any status of ours is seen as 100 and never as 103': async (w) => {
    const client = await w.connected(w.main, undefined);
    const refused = await rejection(client.rpc('r', { do: 'error', code: 103, message: 'permission denied' }));
    assert.deepEqual([refused.code, refused.message], [103, 'permission denied']);
    const failed = await rejection(client.rpc('r', { do: 'fail' }));
    assert.deepEqual([failed.code, failed.temporary], [100, true]);
  },

  'C30 a disconnect that Centrifugo could not deliver does not leave: no endless reconnects': async (w) => {
    const client = await w.connected(w.main, undefined);
    for (const wrong of [{ code: 4501, reason: 'x'.repeat(124) }, { code: 5000, reason: '' }, { code: 0 }, { code: 3000 }]) {
      const failed = await rejection(client.rpc('r', { do: 'disconnect', ...wrong }));
      assert.equal(failed.code, 100, JSON.stringify(wrong));
    }
    assert.equal(client.all('connected').length, 1);
    await rejection(client.rpc('r', { do: 'disconnect', code: 4501, reason: 'x'.repeat(123) }));
    const end = await client.wait('disconnected', { code: 4501 });
    assert.equal(end.reason.length, 123);
  },

  'C32 disconnects of 4000 to 4499 make the SDK reconnect, those of 4500 to 4999 do not': async (w) => {
    for (const code of [4000, 4499]) {
      const client = await w.connected(w.main, undefined);
      client.rpc('r', { do: 'disconnect', code, reason: 'come back' }).catch(() => {});
      await client.wait('connecting', { code, reason: 'come back' });
      await client.wait('connected', {}, undefined, 2);
    }
    for (const code of [4500, 4999]) {
      const client = await w.connected(w.main, undefined);
      client.rpc('r', { do: 'disconnect', code, reason: 'stay away' }).catch(() => {});
      await client.wait('disconnected', { code, reason: 'stay away' });
      assert.equal(client.sdk.state, 'disconnected');
      assert.equal(client.all('connected').length, 1);
    }
  },

  'C33 a temporary error makes the SDK subscribe again, another one ends the subscription': async (w) => {
    const client = await w.connected(w.main, undefined);
    const [again, never] = [w.name('chat:'), w.name('chat:')];
    const retried = client.subscribe(again, { do: 'error', code: 1000, message: 'later', temporary: true });
    const ended = client.subscribe(never, { do: 'error', code: 1001, message: 'no' });
    await w.journal.wait({ event: 'subscribe', subject: again, phase: 'begin' }, 10_000, 3);
    assert.equal((await retried.wait('error', { type: 'subscribe' })).error.code, 1000);
    assert.equal(retried.all('unsubscribed').length, 0);
    const end = await ended.wait('unsubscribed', { code: 1001 });
    assert.equal(end.reason, 'no');
    await w.barrier(client);
    assert.equal(w.journal.all({ event: 'subscribe', subject: never, phase: 'begin' }).length, 1);
  },
};
