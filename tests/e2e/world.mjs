// The world of a case: Centrifugos, the mirror's journal, clients that remember what they saw, and
// the way to take the router away.
import { createHmac, randomUUID } from 'node:crypto';
import { readFileSync, writeFileSync, openSync, readSync } from 'node:fs';
import { createServer, connect as dial } from 'node:net';
import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';

// How often a condition is looked at.
const LOOK_MS = 10;
// How long a condition may take if nothing else is said.
const SOON_MS = 5_000;

// Waits until `look` gives something that is true, and gives it back.
export async function until(what, look, limitMs = SOON_MS) {
  const end = Date.now() + limitMs;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > end) throw new Error(`${limitMs} ms were not enough for: ${what}`);
    await new Promise((done) => setTimeout(done, LOOK_MS));
  }
}

// What a promise is rejected with.
export async function rejection(promise) {
  let value;
  try {
    value = await promise;
  } catch (why) {
    return why;
  }
  throw new Error(`expected a rejection, got ${JSON.stringify(value)}`);
}

export const seconds = () => Math.floor(Date.now() / 1000);

// What the mirror says of events: `phase` is begin or end, `at` is Unix milliseconds.
class Journal {
  constructor(path) {
    this.file = openSync(path, 'r');
    this.place = 0;
    this.rest = '';
    this.lines = [];
    this.buffer = Buffer.alloc(1 << 16);
  }

  read() {
    for (;;) {
      const bytes = readSync(this.file, this.buffer, 0, this.buffer.length, this.place);
      if (bytes === 0) return;
      this.place += bytes;
      const pieces = (this.rest + this.buffer.toString('utf8', 0, bytes)).split('\n');
      this.rest = pieces.pop();
      for (const piece of pieces) this.take(piece);
    }
  }

  take(text) {
    if (!text.startsWith('{')) return;
    const line = JSON.parse(text);
    const it = { ...line, ...line.fields };
    if (it.target !== 'mirror') return;
    this.lines.push({ ...it, phase: it.message, at: Date.parse(it.timestamp) });
  }

  all(like) {
    this.read();
    return this.lines.filter((line) => Object.entries(like).every(([key, value]) => line[key] === value));
  }

  // The `nth` such line, as soon as there is one.
  async wait(like, limitMs, nth = 1) {
    const what = `journal line ${nth} like ${JSON.stringify(like)}`;
    await until(what, () => this.all(like).length >= nth, limitMs);
    return this.all(like)[nth - 1];
  }
}

// A TCP relay in front of the mirror: the router as it is when it is there, and when it is not.
class Relay {
  constructor({ from, to }) {
    Object.assign(this, { from, to, sockets: new Set(), turn: Promise.resolve() });
  }

  // Runs what takes the router away, one at a time; it is back afterwards.
  alone(work) {
    const mine = this.turn.then(work).finally(async () => {
      if (!this.server) await this.up();
    });
    this.turn = mine.catch(() => {});
    return mine;
  }

  up() {
    this.server = createServer((near) => {
      const far = dial(this.to, '127.0.0.1');
      for (const [one, other] of [[near, far], [far, near]]) {
        this.sockets.add(one);
        one.on('error', () => other.destroy());
        one.on('close', () => { this.sockets.delete(one); other.destroy(); });
        one.pipe(other);
      }
    });
    return new Promise((done, fail) => this.server.once('error', fail).listen(this.from, '127.0.0.1', done));
  }

  down() {
    const closed = new Promise((done) => this.server.close(done));
    this.server = undefined;
    for (const socket of this.sockets) socket.destroy();
    return closed;
  }
}

class Centrifugo {
  constructor(name, { port, pid, config }) {
    Object.assign(this, { name, pid, config });
    this.url = `ws://127.0.0.1:${port}/connection/websocket`;
    this.uniUrl = `ws://127.0.0.1:${port}/connection/uni_websocket`;
    this.metricsUrl = `http://127.0.0.1:${port}/metrics`;
  }

  // The sum of a counter over all series that have these labels.
  async metric(name, labels) {
    const text = await (await fetch(this.metricsUrl)).text();
    const series = text.split('\n').filter((line) => line.startsWith(`${name}{`));
    const mine = series.filter((line) => Object.entries(labels).every(([key, value]) => line.includes(`${key}="${value}"`)));
    return mine.reduce((sum, line) => sum + Number(line.split(' ').pop()), 0);
  }

  // Changes the options of a namespace while it runs.
  reload(namespace, options) {
    const config = JSON.parse(readFileSync(this.config, 'utf8'));
    Object.assign(config.channel.namespaces.find(({ name }) => name === namespace), options);
    writeFileSync(this.config, JSON.stringify(config));
    process.kill(this.pid, 'SIGHUP');
  }
}

// Remembers events of an emitter, by name.
class Memory {
  constructor(emitter, names) {
    this.events = [];
    for (const name of names) {
      emitter.on(name, (ctx) => this.events.push({ name, at: Date.now(), ...ctx }));
    }
  }

  all(name, like = {}) {
    const fits = (event) => Object.entries(like).every(([key, value]) => event[key] === value);
    return this.events.filter((event) => event.name === name && fits(event));
  }

  async wait(name, like, limitMs, nth = 1) {
    const what = () => `event ${nth} ${name} ${JSON.stringify(like)} among ${JSON.stringify(this.events)}`;
    try {
      await until(name, () => this.all(name, like).length >= nth, limitMs);
    } catch {
      throw new Error(`missed: ${what()}`.slice(0, 1500));
    }
    return this.all(name, like)[nth - 1];
  }
}

const CLIENT_EVENTS = ['connecting', 'connected', 'disconnected', 'error', 'subscribed', 'subscribing', 'unsubscribed', 'publication'];
const SUBSCRIPTION_EVENTS = ['subscribing', 'subscribed', 'unsubscribed', 'error', 'publication', 'update', 'sync', 'join', 'leave'];

// A client of the SDK.
class Client extends Memory {
  constructor(centrifugo, options) {
    const sdk = new Centrifuge(centrifugo.url, {
      websocket: WebSocket, minReconnectDelay: 100, maxReconnectDelay: 1_000, timeout: 15_000, ...options,
    });
    super(sdk, CLIENT_EVENTS);
    this.sdk = sdk;
  }

  // Connects, and knows the id of the connection from then on.
  async connect(limitMs) {
    this.sdk.connect();
    this.id = (await this.wait('connected', {}, limitMs)).client;
    return this;
  }

  // A subscription with its memory; `data` is the directive for the mirror.
  subscribe(channel, data, options = {}) {
    const sub = this.sdk.newSubscription(channel, { data, minResubscribeDelay: 100, maxResubscribeDelay: 1_000, ...options });
    return this.begin(sub);
  }

  begin(sub) {
    const memory = new Memory(sub, SUBSCRIPTION_EVENTS);
    memory.sdk = sub;
    sub.subscribe();
    return memory;
  }

  rpc(method, data) {
    return this.sdk.rpc(method, data).then((reply) => reply.data);
  }
}

// A connection that speaks frames of the JSON protocol, for what the SDK hides.
class RawClient {
  constructor(url) {
    this.frames = [];
    this.last = 0;
    this.socket = new WebSocket(url);
    this.socket.on('message', (bytes) => {
      for (const text of bytes.toString('utf8').split('\n')) {
        if (text === '{}') this.socket.send('{}');
        else if (text) this.frames.push(JSON.parse(text));
      }
    });
    this.socket.on('close', (code, reason) => { this.closed = { code, reason: String(reason), at: Date.now() }; });
    this.socket.on('error', () => {});
  }

  async open() {
    await until('an open socket', () => this.socket.readyState === WebSocket.OPEN);
    return this;
  }

  // Sends commands in one frame; gives back their ids.
  send(...commands) {
    const numbered = commands.map((command) => ({ id: ++this.last, ...command }));
    this.socket.send(numbered.map((command) => JSON.stringify(command)).join('\n'));
    return numbered.map(({ id }) => id);
  }

  reply(id, limitMs) {
    return until(`a reply to command ${id}`, () => this.frames.find((frame) => frame.id === id), limitMs);
  }

  async call(command, limitMs) {
    return this.reply(this.send(command)[0], limitMs);
  }

  // Connects with this directive.
  async connect(data) {
    await this.open();
    const reply = await this.call({ connect: data === undefined ? {} : { data } });
    if (reply.error) throw new Error(`refused: ${JSON.stringify(reply.error)}`);
    this.id = reply.connect.client;
    return reply.connect;
  }
}

// What one case sees; whatever it opens is closed with it.
class Scene {
  constructor(world) {
    Object.assign(this, world.centrifugos);
    this.journal = world.journal;
    this.relay = world.relay;
    this.tokenKey = world.tokenKey;
    this.open = [];
  }

  // A name that no other case uses.
  name(prefix) {
    return `${prefix}${randomUUID().slice(0, 8)}`;
  }

  client(centrifugo, data, options = {}) {
    const client = new Client(centrifugo, { data, ...options });
    this.open.push(() => client.sdk.disconnect());
    return client;
  }

  // A connected client; the mirror obeys `data` at its connect.
  connected(centrifugo, data, options) {
    return this.client(centrifugo, data, options).connect();
  }

  raw(url) {
    const client = new RawClient(url);
    this.open.push(() => client.socket.terminate());
    return client;
  }

  // A token signed with the key that the Centrifugos know.
  token(claims) {
    const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const text = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`;
    return `${text}.${createHmac('sha256', this.tokenKey).update(text).digest('base64url')}`;
  }

  // Waits until the mirror has seen an rpc of this client: what the client did before and would have
  // led to an event is in the journal by then.
  async barrier(client) {
    const subject = this.name('barrier-');
    await client.rpc(subject);
    await this.journal.wait({ event: 'rpc', subject, phase: 'end' });
  }

  end() {
    for (const close of this.open) close();
  }
}

export class World {
  constructor({ journal, relay, tokenKey, centrifugos }) {
    this.journal = new Journal(journal);
    this.relay = new Relay(relay);
    this.tokenKey = tokenKey;
    this.centrifugos = {};
    for (const [name, about] of Object.entries(centrifugos)) this.centrifugos[name] = new Centrifugo(name, about);
  }

  scene() {
    return new Scene(this);
  }

  open() {
    return this.relay.up();
  }

  close() {
    this.relay.down();
  }
}
