// The sample project in examples/roadrunner seen by the official JavaScript SDK: whoever answers behind
// Centrifugo, a client sees the same. Its argument is the URL of Centrifugo; it prints `ok: …` for each
// step and ends with 0, or says what was not so.
import assert from 'node:assert/strict';
import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';
import { rejection, until } from './world.mjs';

const url = process.argv[2];
// Sessions last two seconds here; busy machines are slow.
const LONG_MS = 20_000;

function client(token) {
  const sdk = new Centrifuge(url, { websocket: WebSocket, data: { token }, timeout: 15_000 });
  const seen = { publications: [], disconnected: [] };
  sdk.on('connected', (context) => { seen.connected = context; });
  sdk.on('disconnected', (context) => seen.disconnected.push(context));
  sdk.on('publication', (context) => seen.publications.push(context));
  return { sdk, seen };
}

const steps = {
  async 'connect is answered with a user, data and a channel'() {
    alice.sdk.connect();
    await until('a connection', () => alice.seen.connected, LONG_MS);
    assert.deepEqual(alice.seen.connected.data, { hello: 'alice' });
  },
  async 'connect without a known token ends the client'() {
    const nobody = client('stolen');
    nobody.sdk.connect();
    await until('an end', () => nobody.seen.disconnected.length > 0, LONG_MS);
    assert.equal(nobody.seen.disconnected[0].code, 4501);
    assert.equal(nobody.seen.disconnected[0].reason, 'unknown token');
  },
  async 'subscribe brings data, or an error'() {
    lobby.subscribe();
    await lobby.ready(LONG_MS);
    assert.deepEqual(topics, [{ topic: 'about room:lobby' }]);
    const closed = alice.sdk.newSubscription('room:closed');
    const gone = new Promise((done) => closed.once('unsubscribed', done));
    closed.subscribe();
    const { code, reason } = await gone;
    assert.deepEqual([code, reason], [403, 'this room is closed']);
  },
  async 'publish is rewritten, or refused'() {
    await lobby.publish({ text: '  hi ', by: 'somebody else' });
    await until('what was said', () => said.length === 1, LONG_MS);
    assert.deepEqual(said[0], { text: 'hi', by: 'alice' });
    assert.equal((await rejection(lobby.publish({ text: ' ' }))).code, 422);
  },
  async 'rpc is answered, refused, and not found'() {
    const value = { a: [1, 'ü', null], b: { c: true } };
    assert.deepEqual((await alice.sdk.rpc('echo', value)).data, value);
    assert.equal((await rejection(alice.sdk.rpc('order', {}))).code, 409);
    assert.equal((await rejection(alice.sdk.rpc('nosuch', {}))).code, 404);
    assert.equal((await rejection(alice.sdk.rpc('break', {}))).code, 500);
  },
  async 'the application publishes back, to a room and to a user'() {
    const announced = await alice.sdk.rpc('announce', { room: 'lobby', text: 'closing time' });
    assert.deepEqual(announced.data, { announced: 'lobby' });
    await until('the announcement', () => said.length === 2, LONG_MS);
    assert.deepEqual(said[1], { text: 'closing time', by: 'the house' });
    const ordered = await alice.sdk.rpc('order', { item: 'tea' });
    assert.deepEqual(ordered.data, { item: 'tea', for: 'alice' });
    await until('the order', () => alice.seen.publications.some(({ data }) => data.ordered === 'tea'), LONG_MS);
    assert.equal(alice.seen.publications[0].channel, 'personal:alice');
  },
  async 'a session is prolonged, and says so by way of the application'() {
    const prolonged = () => alice.seen.publications.filter(({ data }) => data.session === 'prolonged').length;
    await until('two refreshes', () => prolonged() >= 2, LONG_MS);
    assert.deepEqual(alice.seen.disconnected, []);
  },
  async 'rpc may end the connection'() {
    const bob = client('bobs-token');
    bob.sdk.connect();
    await bob.sdk.ready(LONG_MS);
    await rejection(bob.sdk.rpc('leave', {}));
    assert.equal(bob.seen.disconnected[0].code, 4502);
  },
};

const alice = client('alices-token');
const lobby = alice.sdk.newSubscription('room:lobby');
const topics = [];
const said = [];
lobby.on('subscribed', ({ data }) => topics.push(data));
lobby.on('publication', ({ data }) => said.push(data));

for (const [title, step] of Object.entries(steps)) {
  try {
    await step();
  } catch (why) {
    console.log(`failed: ${title}: ${why.stack}`);
    process.exit(1);
  }
  console.log(`ok: ${title}`);
}
process.exit(0);
