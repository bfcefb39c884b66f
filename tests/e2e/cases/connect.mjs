// Connect: who a client is, what it gets, and what does not admit it.
import assert from 'node:assert/strict';
import { seconds, until } from '../world.mjs';

const result = (fields) => ({ do: 'result', result: { user: 'u1', ...fields } });
// What the SDK is left with after a connect that failed for good.
const refused = async (w, data) => {
  const client = w.client(w.main, data);
  client.sdk.connect();
  return client.wait('disconnected', {});
};

export const cases = {
  'C35 the user of the connect reply is the user of every later event': async (w) => {
    const client = await w.connected(w.main, result({ user: 'ann' }));
    const channel = w.name('chat:');
    await client.subscribe(channel).wait('subscribed', {});
    await client.sdk.publish(channel, {});
    assert.equal((await client.rpc('who', { do: 'echo' })).user, 'ann');
    for (const event of ['subscribe', 'publish', 'rpc']) {
      const line = await w.journal.wait({ event, client: client.id, phase: 'begin' });
      assert.equal(line.user, 'ann', event);
    }
  },

  'C37 an empty connect reply disconnects with 3501': async (w) => {
    assert.equal((await refused(w, { do: 'empty' })).code, 3501);
  },

  'C38 an expiry in the past gives 110, one in milliseconds is clamped to a year': async (w) => {
    assert.equal((await refused(w, result({ expire_at: seconds() - 100 }))).code, 110);
    // Without a refresh proxy the client is told when it expires.
    const raw = w.raw(w.serial.url);
    const { expires, ttl } = await raw.connect(result({ expire_at: Date.now() }));
    assert.equal(expires, true);
    assert.ok(Math.abs(ttl - 365 * 86_400) < 10, `ttl ${ttl}`);
  },

  'C39 the meta of the connect reply comes back on rpc where it is included, and only there': async (w) => {
    const meta = { tenant: 't1', exact: 1.5 };
    const included = await w.connected(w.main, result({ meta }));
    assert.deepEqual((await included.rpc('r', { do: 'echo' })).meta, meta);
    const left = await w.connected(w.serial, result({ meta }));
    assert.equal((await left.rpc('r', { do: 'echo' })).meta, null);
  },

  'C40 channels and subs subscribe without a call of subscribe, and the options of subs win': async (w) => {
    const [both, plain, other] = [w.name('srv:'), w.name('srv:'), w.name('srv:')];
    const client = await w.connected(w.main, result({
      channels: [both, plain], subs: { [both]: { data: { topic: 'x' } }, [other]: {} },
    }));
    for (const [channel, data] of [[both, { topic: 'x' }], [plain, undefined], [other, undefined]]) {
      const event = await client.wait('subscribed', { channel });
      assert.deepEqual(event.data, data, channel);
    }
    // The same namespace does ask us when the client subscribes by itself.
    const own = w.name('srv:');
    await client.subscribe(own).wait('subscribed', {});
    await w.journal.wait({ event: 'subscribe', subject: own, phase: 'end' });
    for (const subject of [both, plain, other]) {
      assert.equal(w.journal.all({ event: 'subscribe', subject }).length, 0, subject);
    }
  },

  'C41 a channel of an unknown namespace in the reply fails the connect with 102': async (w) => {
    assert.equal((await refused(w, result({ channels: ['nowhere:1'] }))).code, 102);
    assert.equal((await refused(w, result({ subs: { 'nowhere:1': {} } }))).code, 102);
  },

  'C42 an override switches presence on or off for one subscription, without one the namespace decides': async (w) => {
    const [dark, chat] = [w.name('dark:'), w.name('chat:')];
    const sub = (presence) => ({ override: { presence: { value: presence } } });
    const shown = await w.connected(w.main, result({ subs: { [dark]: sub(true), [chat]: {} } }));
    const hidden = await w.connected(w.main, result({ subs: { [dark]: {}, [chat]: sub(false) } }));
    const present = async (channel) => Object.keys((await shown.sdk.presence(channel)).clients);
    assert.deepEqual(await present(chat), [shown.id]);
    // Where presence is off nobody may ask for it; once it is on, those of before are seen.
    await assert.rejects(shown.sdk.presence(dark), { code: 108 });
    w.main.reload('dark', { presence: true });
    await until('the new options', () => shown.sdk.presence(dark).then(() => true, () => false));
    assert.deepEqual(await present(dark), [shown.id]);
    assert.ok(!(await present(dark)).includes(hidden.id));
  },

  'C43 a client with a token never reaches connect, but rpc, publish and refresh': async (w) => {
    const token = w.token({ sub: 'jwt-user', exp: seconds() + 3 });
    const client = await w.connected(w.main, undefined, { token });
    await client.rpc('r');
    await client.sdk.publish(w.name('chat:'), {});
    for (const event of ['rpc', 'publish', 'refresh']) {
      const line = await w.journal.wait({ event, client: client.id, phase: 'end' }, 10_000);
      assert.equal(line.outcome, 'ok');
    }
    assert.equal(w.journal.all({ event: 'rpc', client: client.id })[0].user, 'jwt-user');
    assert.equal(w.journal.all({ event: 'connect', client: client.id }).length, 0);
  },

  'C45 a client that reconnects has a new id, and what it held under the old one is released': async (w) => {
    const client = await w.connected(w.main, undefined);
    const channel = w.name('feed:');
    const sub = client.subscribe(channel, { do: 'stream', publications: [] });
    await sub.wait('subscribed', {});
    client.rpc('r', { do: 'disconnect', code: 4000, reason: 'again' }).catch(() => {});
    const again = await client.wait('connected', {}, undefined, 2);
    assert.notEqual(again.client, client.id);
    const old = { event: 'stream', subject: channel, client: client.id, phase: 'end' };
    assert.equal((await w.journal.wait(old)).outcome, 'stream_cancelled');
    await w.journal.wait({ event: 'stream', subject: channel, client: again.client, phase: 'begin' });
    assert.equal((await client.rpc('r', { do: 'echo' })).client, again.client);
  },

  'C46 a connect handler slower than the timeout gives 100, and its late result has no effect': async (w) => {
    const client = await w.raw(w.main.url).open();
    const reply = await client.call({ connect: { data: { do: 'sleep', ms: 1_500, then: result({}) } } });
    assert.deepEqual([reply.error.code, reply.error.temporary], [100, true]);
    // Nothing more comes, neither at 1.5 s nor later, until the node drops the connection.
    await until('the connection is dropped', () => client.closed, 10_000);
    assert.equal(client.frames.length, 1, JSON.stringify(client.frames));
    const ended = w.journal.all({ event: 'connect', phase: 'end', outcome: 'timeout' });
    assert.ok(ended.length > 0, 'the handler has been stopped');
  },
};
