// Subscribe: who gets in, with what, and what never asks us.
import assert from 'node:assert/strict';

const result = (fields) => ({ do: 'result', result: fields });

export const cases = {
  'C52 an empty reply subscribes, and error 403 ends the subscription with 403': async (w) => {
    const client = await w.connected(w.main, undefined);
    await client.subscribe(w.name('chat:'), { do: 'empty' }).wait('subscribed', {});
    await client.subscribe(w.name('chat:'), result({})).wait('subscribed', {});
    const channel = w.name('chat:');
    const refused = client.subscribe(channel, { do: 'error', code: 403, message: 'members only' });
    const end = await refused.wait('unsubscribed', {});
    assert.deepEqual([end.code, end.reason], [403, 'members only']);
    // The journal comes by a way of its own, and may be later than the answer.
    await w.barrier(client);
    assert.equal(w.journal.all({ event: 'subscribe', subject: channel, phase: 'begin' }).length, 1);
  },

  'C54 private channels without a token and user-limited channels never ask us': async (w) => {
    const client = await w.connected(w.main, result({ user: 'u1' }));
    const priv = `$${w.name('chat:')}`;
    const [mine, theirs] = [`${w.name('own:')}#u1`, `${w.name('own:')}#u2`];
    assert.equal((await client.subscribe(priv).wait('unsubscribed', {})).code, 103);
    assert.equal((await client.subscribe(theirs).wait('unsubscribed', {})).code, 103);
    await client.subscribe(mine).wait('subscribed', {});
    // A plain channel of the same namespace does.
    const plain = w.name('own:');
    await client.subscribe(plain).wait('subscribed', {});
    await w.journal.wait({ event: 'subscribe', subject: plain, phase: 'end' });
    for (const subject of [priv, mine, theirs]) {
      assert.equal(w.journal.all({ event: 'subscribe', subject }).length, 0, subject);
    }
  },

  'C55 data of the result is seen by the subscriber, info of it in presence': async (w) => {
    const client = await w.connected(w.main, undefined);
    const channel = w.name('chat:');
    const sub = client.subscribe(channel, result({ data: { topic: 'x' }, info: { role: 'mod' } }));
    assert.deepEqual((await sub.wait('subscribed', {})).data, { topic: 'x' });
    const { clients } = await sub.sdk.presence();
    assert.deepEqual(clients[client.id].chanInfo, { role: 'mod' });
  },

  'C57 force_recovery of the override makes a subscription recoverable, the wish of a client does not': async (w) => {
    const client = await w.connected(w.main, undefined);
    const forced = result({ override: { force_recovery: { value: true } } });
    const sub = client.subscribe(w.name('hist:'), forced);
    assert.equal((await sub.wait('subscribed', {})).recoverable, true);
    const wished = client.subscribe(w.name('hist:'), result({}), { recoverable: true });
    assert.equal((await wished.wait('subscribed', {})).recoverable, false);
  },

  'C58 an unsubscribe during a slow subscribe handler ends the connection with 3004 after 5 s': async (w) => {
    const client = await w.connected(w.main, undefined);
    const channel = w.name('slow:');
    const sub = client.subscribe(channel, { do: 'sleep', ms: 7_000 });
    await w.journal.wait({ event: 'subscribe', subject: channel, phase: 'begin' });
    const left = Date.now();
    sub.sdk.unsubscribe();
    const closed = await client.wait('connecting', { code: 3004 }, 10_000);
    const after = closed.at - left;
    assert.ok(after > 4_500 && after < 6_800, `closed after ${after} ms`);
    const ended = await w.journal.wait({ event: 'subscribe', subject: channel, phase: 'end' });
    assert.equal(ended.outcome, 'cancelled');
  },

  'C59 two subscribes to one channel at once make one call, and the second gets 105': async (w) => {
    const client = w.raw(w.main.url);
    await client.connect();
    const channel = w.name('slow:');
    const command = { subscribe: { channel, data: { do: 'sleep', ms: 500 } } };
    const replies = await Promise.all(client.send(command, command).map((id) => client.reply(id)));
    const errors = replies.filter((reply) => reply.error);
    assert.deepEqual(errors.map((reply) => reply.error.code), [105], JSON.stringify(replies));
    assert.equal(replies.filter((reply) => reply.subscribe).length, 1);
    await w.journal.wait({ event: 'subscribe', subject: channel, phase: 'end' });
    assert.equal(w.journal.all({ event: 'subscribe', subject: channel, phase: 'begin' }).length, 1);
  },
};
