// The other examples behind a real Centrifugo: `minimal` has a part in C64 as well.
import assert from 'node:assert/strict';
import { rejection } from '../world.mjs';

export const cases = {
  'auth knows its clients from connect on, and lets nobody else in': async (w) => {
    const stranger = w.client(w.examples, { token: 'guess' });
    stranger.sdk.connect();
    await stranger.wait('disconnected', { code: 4501, reason: 'unknown token' });

    const ann = await w.connected(w.examples, { token: 'ann-secret' });
    const bob = await w.connected(w.examples, { token: 'bob-secret' });
    assert.deepEqual(await ann.rpc('whoami', {}), ['ann', 'admin']);
    assert.deepEqual(await bob.rpc('whoami', {}), ['bob', 'customer']);
    assert.equal(await ann.rpc('shop.close', {}), 'closed by ann');
    assert.equal((await rejection(bob.rpc('shop.close', {}))).code, 103);
    assert.equal((await rejection(bob.rpc('shop.open', {}))).code, 104);

    await bob.subscribe('orders:bob').wait('subscribed', {});
    assert.equal((await bob.subscribe('orders:ann').wait('unsubscribed', {})).code, 103);
    await ann.subscribe('orders:bob').wait('subscribed', {});
    await ann.sdk.publish('news', 'sale');
    assert.equal((await rejection(bob.sdk.publish('news', 'sale'))).code, 103);
  },

  'streams ticks one way, and repeats what it is told on a two-way line': async (w) => {
    const client = await w.connected(w.examples, { token: 'ann-secret' });
    const clock = client.subscribe('clock:1');
    assert.deepEqual((await clock.wait('subscribed', {})).data, { every: 1 });
    await clock.wait('publication', {}, 5_000, 2);
    assert.deepEqual(clock.all('publication').map(({ data }) => data.tick), [0, 1]);
    assert.equal((await client.subscribe('clock:0').wait('unsubscribed', {})).code, 107);

    const term = client.subscribe('term:a');
    assert.deepEqual((await term.wait('subscribed', {})).data, { text: 'ann is on a' });
    await term.sdk.publish('one');
    const echo = await term.wait('publication', {});
    assert.deepEqual([echo.data, echo.tags], [{ echo: 'one' }, { kind: 'echo' }]);
    await term.sdk.publish('bye');
    await term.wait('unsubscribed', { code: 2000 });
  },
};
