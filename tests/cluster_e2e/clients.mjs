// Clients of the official SDK that do what they are told: a line of JSON each on stdin, answered by a
// line with its number; what happens to clients and subscriptions by itself is told in lines between.
import { createInterface } from 'node:readline';
import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';

// How long anything may take.
const LIMIT_MS = 30_000;
const delays = { minReconnectDelay: 50, maxReconnectDelay: 300, minResubscribeDelay: 50, maxResubscribeDelay: 300 };

const clients = new Map();
let isLoaded = true;
const loads = [];
const say = (it) => console.log(JSON.stringify({ at: Date.now(), ...it }));

function listen(emitter, names, about) {
  for (const event of names) emitter.on(event, (ctx) => say({ ...about, event, ctx }));
}

async function connect({ client, url }, waits = true) {
  const sdk = new Centrifuge(url, { websocket: WebSocket, timeout: 15_000, ...delays });
  listen(sdk, ['connected', 'connecting', 'disconnected', 'error'], { client });
  clients.set(client, sdk);
  const first = new Promise((done) => sdk.once('connected', done));
  sdk.connect();
  return waits && first;
}

async function subscribe({ client, channel }, waits = true) {
  const sub = clients.get(client).newSubscription(channel, delays);
  listen(sub, ['subscribed', 'subscribing', 'unsubscribed', 'error', 'publication'], { client, channel });
  const first = new Promise((done) => sub.once('subscribed', done));
  sub.subscribe();
  return waits && first;
}

// One after the other: a call of `count` and a publication, of which the next call knows.
async function load({ client, room, rest }) {
  const sdk = clients.get(client);
  for (let n = 1; isLoaded; n += 1) {
    for (const [call, work] of [
      ['count', () => sdk.rpc('count', { room })],
      ['publish', () => sdk.publish(`chat:${room}`, { n })],
    ]) {
      const began = Date.now();
      try {
        const reply = await work();
        say({ client, room, call, n, began, ok: reply?.data ?? {} });
      } catch (why) {
        say({ client, room, call, n, began, error: plain(why) });
      }
    }
    await new Promise((done) => setTimeout(done, rest));
  }
}

const plain = (why) => ({ code: why?.code, message: why?.message ?? String(why), temporary: why?.temporary });

const acts = {
  connect: (it) => connect(it, !it.later),
  subscribe: (it) => subscribe(it, !it.later),
  rpc: ({ client, method, data }) => clients.get(client).rpc(method, data).then((reply) => reply.data),
  publish: ({ client, channel, data }) => clients.get(client).publish(channel, data),
  load: (it) => { loads.push(load(it)); },
  rest: async () => { isLoaded = false; await Promise.all(loads); },
};

createInterface({ input: process.stdin }).on('line', async (line) => {
  const it = JSON.parse(line);
  try {
    const limit = new Promise((_, fail) => { setTimeout(() => fail(new Error('took too long')), LIMIT_MS).unref(); });
    const ok = await Promise.race([acts[it.do](it), limit]);
    say({ re: it.id, ok: ok || {} });
  } catch (why) {
    say({ re: it.id, error: plain(why) });
  }
}).on('close', () => process.exit(0));
