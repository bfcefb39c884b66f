// Runs every case at once and prints a line for each: `C25 ok: …` or `C25 failed: …: why`.
// Its argument is a file that describes the running world, written by tests/centrifugo.rs.
import { readFileSync } from 'node:fs';
import { World } from './world.mjs';
import { cases as failures } from './cases/failures.mjs';
import { cases as connects } from './cases/connect.mjs';
import { cases as refreshes } from './cases/refresh.mjs';
import { cases as subscribes } from './cases/subscribe.mjs';
import { cases as publishes } from './cases/publish.mjs';
import { cases as rpcs } from './cases/rpc.mjs';
import { cases as examples } from './cases/examples.mjs';
import { cases as streams } from './cases/streams.mjs';

// No case may take longer than this.
const LIMIT_MS = 180_000;

const world = new World(JSON.parse(readFileSync(process.argv[2], 'utf8')));
const only = process.env.CENTRIPETA_E2E_ONLY?.split(',');
const all = [failures, connects, refreshes, subscribes, publishes, rpcs, streams, examples].flatMap(Object.entries);

// What a case leaves behind must not end the others.
process.on('unhandledRejection', (why) => console.error('stray rejection:', why));

async function run([title, body]) {
  const number = title.split(' ', 1)[0];
  const sentence = title.slice(number.length + 1);
  const scene = world.scene();
  const started = Date.now();
  let limit;
  const late = new Promise((_, fail) => {
    limit = setTimeout(() => fail(new Error('took too long')), LIMIT_MS);
  });
  try {
    await Promise.race([body(scene), late]);
    console.log(`${number} ok: ${sentence} (${((Date.now() - started) / 1000).toFixed(1)} s)`);
  } catch (why) {
    const text = (why?.stack ?? JSON.stringify(why)).split('\n').slice(0, 4).join(' | ');
    console.log(`${number} failed: ${sentence}: ${text}`);
  } finally {
    clearTimeout(limit);
    scene.end();
  }
}

const wanted = all.filter(([title]) => !only || only.includes(title.split(' ', 1)[0]));
await world.open();
await Promise.all(wanted.map(run));
world.close();
process.exit(0);
