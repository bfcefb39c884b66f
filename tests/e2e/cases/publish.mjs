// Publish: what is published, and what is not. The payload is the directive itself.
import assert from 'node:assert/strict';
import { rejection } from '../world.mjs';

const result = (fields) => ({ do: 'result', result: fields });

// A subscriber of a new channel, who also publishes.
async function subscriber(w, prefix = 'chat:') {
  const client = await w.connected(w.main, undefined);
  const channel = w.name(prefix);
  const sub = client.subscribe(channel);
  await sub.wait('subscribed', {});
  return { client, channel, sub };
}

export const cases = {
  'C60 an empty reply publishes the payload as it is, data of the result replaces it': async (w) => {
    const { sub } = await subscriber(w);
    await sub.sdk.publish({ do: 'empty', n: 1.5 });
    assert.deepEqual((await sub.wait('publication', {})).data, { do: 'empty', n: 1.5 });
    await sub.sdk.publish(result({ data: { other: true } }));
    assert.deepEqual((await sub.wait('publication', {}, undefined, 2)).data, { other: true });
  },

  'C62 skip_history keeps a publication out of history, and tags reach subscribers': async (w) => {
    const { sub } = await subscriber(w, 'hist:');
    await sub.sdk.publish(result({ data: 'kept', tags: { lang: 'en' } }));
    await sub.sdk.publish(result({ data: 'fleeting', skip_history: true }));
    assert.deepEqual((await sub.wait('publication', { data: 'kept' })).tags, { lang: 'en' });
    await sub.wait('publication', { data: 'fleeting' });
    const { publications } = await sub.sdk.history({ limit: 10 });
    assert.deepEqual(publications.map(({ data }) => data), ['kept']);
  },

  'C63 error 403 publishes nothing and rejects with 403': async (w) => {
    const { sub } = await subscriber(w);
    const refused = await rejection(sub.sdk.publish({ do: 'error', code: 403, message: 'muted' }));
    assert.deepEqual([refused.code, refused.message], [403, 'muted']);
    // Had it been published, it would have come before this one.
    await sub.sdk.publish({ last: true });
    assert.deepEqual((await sub.wait('publication', {})).data, { last: true });
  },

  'C64 an anonymous client that has not subscribed reaches us with a publish, and no route refuses it': async (w) => {
    const { sub, channel } = await subscriber(w);
    const anonymous = await w.connected(w.main, result({ user: '' }));
    await anonymous.sdk.publish(channel, { from: 'nobody' });
    assert.deepEqual((await sub.wait('publication', {})).data, { from: 'nobody' });
    const line = await w.journal.wait({ event: 'publish', client: anonymous.id, phase: 'begin' });
    assert.equal(line.user, '');
    // The namespace `closed` belongs to the example `minimal`, which has no route for publish.
    const refused = await rejection(anonymous.sdk.publish(w.name('closed:'), {}));
    assert.equal(refused.code, 103);
  },

  'C65 an empty payload gets 107 and never reaches us': async (w) => {
    const client = w.raw(w.main.url);
    await client.connect();
    const [empty, full] = [w.name('chat:'), w.name('chat:')];
    assert.equal((await client.call({ publish: { channel: empty } })).error.code, 107);
    assert.equal((await client.call({ publish: { channel: full, data: {} } })).error, undefined);
    await w.journal.wait({ event: 'publish', subject: full, phase: 'end' });
    assert.equal(w.journal.all({ event: 'publish', subject: empty }).length, 0);
  },

  'C84 a publish into a map channel gets 107 while its entry reaches subscribers': async (w) => {
    const client = await w.connected(w.main, undefined);
    const channel = w.name('board:');
    const watcher = await w.connected(w.main, undefined);
    const board = watcher.begin(watcher.sdk.newMapSubscription(channel));
    await board.wait('subscribed', {});
    const answer = await rejection(client.sdk.mapPublish(channel, 'k1', { v: 1 }));
    assert.equal(answer.code, 107);
    assert.deepEqual((await board.wait('update', { key: 'k1' })).data, { v: 1 });
    const line = await w.journal.wait({ event: 'map_publish', subject: channel, phase: 'end' });
    assert.equal(line.outcome, 'ok');
    // An explicit refusal is seen as one, and nothing is stored.
    const refused = await rejection(client.sdk.mapPublish(channel, 'k2', { do: 'error', code: 403, message: 'no' }));
    assert.equal(refused.code, 403);
    assert.equal((await rejection(client.sdk.mapPublish(channel, 'k3', { v: 3 }))).code, 107);
    await board.wait('update', { key: 'k3' });
    assert.equal(board.all('update', { key: 'k2' }).length, 0);
  },
};
