// Subscription streams: opening, order, ends, and who is told when a client leaves.
import assert from 'node:assert/strict';
import { until } from '../world.mjs';

const numbers = (count) => Array.from({ length: count }, (_, n) => ({ data: { n } }));
const stream = (fields) => ({ do: 'stream', publications: [], ...fields });

export const cases = {
  'C74 a rejection of a stream reaches the client with its code': async (w) => {
    const client = await w.connected(w.main, undefined);
    for (const prefix of ['feed:', 'term:']) {
      const sub = client.subscribe(w.name(prefix), { do: 'error', code: 1403, message: 'no' });
      const end = await sub.wait('unsubscribed', {});
      assert.deepEqual([end.code, end.reason], [1403, 'no']);
    }
    // The flag is lost on the way, so a temporary one is a status: the client comes back by itself.
    const channel = w.name('feed:');
    const later = client.subscribe(channel, { do: 'error', code: 1000, message: 'later', temporary: true });
    await w.journal.wait({ event: 'stream', subject: channel, phase: 'begin' }, 10_000, 2);
    assert.equal((await later.wait('error', { type: 'subscribe' })).error.code, 100);
    const leaver = await w.connected(w.main, undefined);
    leaver.subscribe(w.name('feed:'), { do: 'disconnect', code: 4503, reason: 'out' });
    await leaver.wait('disconnected', { code: 4503, reason: 'out' });
  },

  'C75 a first message later than the timeout gives 100, and the handler is told and stopped': async (w) => {
    const client = await w.connected(w.main, undefined);
    const channel = w.name('feed:');
    // From the client's own call on: under load the handler begins late, and would see less of it.
    const asked = Date.now();
    const sub = client.subscribe(channel, { do: 'sleep', ms: 20_000, then: stream({}) });
    const { error } = await sub.wait('error', { type: 'subscribe' });
    assert.equal(error.code, 100);
    const end = await w.journal.wait({ event: 'stream', subject: channel, phase: 'end' });
    // Our own limit is 3 s: it was Centrifugo that gave up and said so.
    assert.equal(end.outcome, 'cancelled');
    const after = end.at - asked;
    assert.ok(after > 500 && end.ms < 2_500, `${after} ms, ${end.ms} of them in the handler`);
  },

  'C76 publications right after the first message arrive in order behind the subscribed event': async (w) => {
    const client = await w.connected(w.main, undefined);
    for (const prefix of ['feed:', 'term:']) {
      const directive = stream({ first: { data: { hi: 1 } }, publications: numbers(500) });
      const sub = client.subscribe(w.name(prefix), directive);
      await sub.wait('publication', {}, 10_000, 500);
      const seen = sub.events.filter(({ name }) => name !== 'subscribing');
      assert.equal(seen[0].name, 'subscribed');
      assert.deepEqual(seen[0].data, { hi: 1 });
      assert.deepEqual(seen.slice(1).map(({ data }) => data.n), numbers(500).map(({ data }) => data.n));
    }
    // The other direction keeps its order too.
    const channel = w.name('term:');
    const two = client.subscribe(channel, stream({}));
    await two.wait('subscribed', {});
    for (const { data } of numbers(100)) await two.sdk.publish(data);
    await two.wait('publication', {}, 10_000, 100);
    assert.deepEqual(two.all('publication').map(({ data }) => data.echo), numbers(100).map(({ data }) => data));
  },

  'C77 a clean end unsubscribes with 2000, a failure with 2500 and a new stream': async (w) => {
    const client = await w.connected(w.main, undefined);
    const clean = client.subscribe(w.name('feed:'), stream({ publications: numbers(1), end: 'ok' }));
    await clean.wait('unsubscribed', { code: 2000 });
    assert.equal(clean.all('publication').length, 1);
    const channel = w.name('feed:');
    const torn = client.subscribe(channel, stream({ end: 'fail' }));
    await torn.wait('subscribing', { code: 2500 });
    await w.journal.wait({ event: 'stream', subject: channel, phase: 'begin' }, undefined, 2);
    torn.sdk.unsubscribe();
    const end = await w.journal.wait({ event: 'stream', subject: channel, phase: 'end' });
    assert.equal(end.outcome, 'stream_failed');
  },

  'C78 unsubscribe and disconnect both cancel the stream, which is freed within a second': async (w) => {
    for (const prefix of ['feed:', 'term:']) {
      for (const leave of ['unsubscribe', 'disconnect']) {
        const client = await w.connected(w.main, undefined);
        const channel = w.name(prefix);
        const sub = client.subscribe(channel, stream({ publications: numbers(1) }));
        await sub.wait('publication', {});
        assert.equal(w.journal.all({ subject: channel, phase: 'end' }).length, 0, 'it is open');
        const left = Date.now();
        if (leave === 'unsubscribe') sub.sdk.unsubscribe();
        else client.sdk.disconnect();
        const end = await w.journal.wait({ subject: channel, phase: 'end' });
        assert.equal(end.outcome, 'stream_cancelled');
        assert.ok(end.at - left < 1_000, `${leave}: ${end.at - left} ms`);
      }
    }
  },

  'C81 a client that reads too slowly is closed with 3008, and its streams are freed': async (w) => {
    const client = w.raw(w.quick.url);
    await client.connect();
    const slow = () => w.quick.metric('centrifugo_client_num_server_disconnects', { code: '3008' });
    const before = await slow();
    // Nothing is read from now on; what comes is far more than queue and sockets hold.
    client.socket._socket.pause();
    const channels = Array.from({ length: 8 }, () => w.name('feed:'));
    const publications = Array.from({ length: 60 }, () => ({ data: 'x'.repeat(50_000) }));
    for (const channel of channels) {
      client.send({ subscribe: { channel, data: stream({ publications }) } });
    }
    await until('a disconnect with 3008', async () => (await slow()) > before, 15_000);
    const opened = await w.journal.wait({ event: 'stream', subject: channels[0], phase: 'end' }, 10_000);
    assert.equal(opened.outcome, 'stream_cancelled');
    client.socket._socket.resume();
    await until('the close', () => client.closed, 10_000);
    assert.ok([3008, 1006].includes(client.closed.code), `closed with ${client.closed.code}`);
  },
};
