// A client of the official SDK: says in a line of JSON each what happens to its subscription.
// Arguments: the transport, the port of nginx.
import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';

const [transport, port] = process.argv.slice(2);
const host = `127.0.0.1:${port}`;
const scheme = transport === 'websocket' ? 'ws' : 'http';
const client = new Centrifuge([{ transport, endpoint: `${scheme}://${host}/connection/${transport}` }], {
  websocket: WebSocket, fetch, readableStream: ReadableStream, emulationEndpoint: `http://${host}/emulation`,
  minReconnectDelay: 50, maxReconnectDelay: 200,
});
const say = (event, more) => console.log(JSON.stringify({ event, ...more }));
client.on('connected', ({ transport: by }) => say('connected', { by }));
client.on('connecting', ({ code }) => say('connecting', { code }));
const feed = client.newSubscription('feed:news');
feed.on('subscribed', ({ recovered }) => say('subscribed', { recovered }));
feed.on('publication', ({ data }) => say('publication', { data }));
feed.subscribe();
client.connect();
