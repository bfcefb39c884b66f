// Rpc: namespaces, results, and how calls of one client run beside each other.
import assert from 'node:assert/strict';
import { rejection } from '../world.mjs';

const result = (fields) => ({ do: 'result', result: fields });

// Two calls of one client at once, as the mirror saw them.
async function twoCalls(w, centrifugo) {
  const client = await w.connected(centrifugo, undefined);
  const subject = w.name('both-');
  await Promise.all([1, 2].map(() => client.rpc(subject, { do: 'sleep', ms: 1_000 })));
  await w.journal.wait({ event: 'rpc', subject, phase: 'end' }, undefined, 2);
  return ['begin', 'end'].map((phase) => w.journal.all({ event: 'rpc', subject, phase }).map(({ at }) => at));
}

export const cases = {
  'C66 a method belongs to the namespace before its colon: unknown ones get 104, those without a proxy 108': async (w) => {
    const client = await w.connected(w.main, undefined);
    const [known, unknown, off] = [w.name('cart:add-'), w.name('nowhere:x-'), w.name('off:x-')];
    assert.equal((await client.rpc(known, { do: 'echo' })).method, known);
    assert.equal((await rejection(client.rpc(unknown))).code, 104);
    assert.equal((await rejection(client.rpc(off))).code, 108);
    await w.journal.wait({ event: 'rpc', subject: known, phase: 'end' });
    assert.equal(w.journal.all({ event: 'rpc', subject: unknown }).length, 0);
    assert.equal(w.journal.all({ event: 'rpc', subject: off }).length, 0);
  },

  'C67 the code and the message of an error reach the caller': async (w) => {
    const client = await w.connected(w.main, undefined);
    const refused = await rejection(client.rpc('buy', { do: 'error', code: 999, message: 'no stock' }));
    assert.deepEqual([refused.code, refused.message], [999, 'no stock']);
  },

  'C68 a result without data resolves empty, and bytes that are not JSON do not leave towards a JSON client': async (w) => {
    const client = await w.connected(w.main, undefined);
    assert.equal((await client.rpc('r', result({}))) ?? null, null);
    assert.equal((await client.rpc('r')) ?? null, null);
    const subject = w.name('bytes-');
    const refused = await rejection(client.rpc(subject, result({ b64data: '/wD/' })));
    assert.equal(refused.code, 100);
    const line = await w.journal.wait({ event: 'rpc', subject, phase: 'end' });
    assert.equal(line.outcome, 'bad_reply');
    // Centrifugo would have closed the connection with 3506.
    await w.barrier(client);
    assert.equal(client.all('connected').length, 1);
  },

  'C89 two rpcs of one client run one after the other without concurrency, and overlap with it': async (w) => {
    const [[, second], [end]] = await twoCalls(w, w.serial);
    assert.ok(second >= end, `the second began ${end - second} ms before the first ended`);
    const [[, late], [early]] = await twoCalls(w, w.main);
    assert.ok(late < early, `the second began ${late - early} ms after the first ended`);
  },

  'C90 a refresh that comes while an rpc of the same client runs is served beside it': async (w) => {
    const meta = { refresh: { do: 'result', result: { expire_in: 3600 } } };
    const client = await w.connected(w.main, result({ user: 'u1', expire_in: 2, meta }));
    const subject = w.name('long-');
    await client.rpc(subject, { do: 'sleep', ms: 5_000 });
    const [begun] = w.journal.all({ event: 'rpc', subject, phase: 'begin' });
    const ended = await w.journal.wait({ event: 'rpc', subject, phase: 'end' });
    const refreshed = await w.journal.wait({ event: 'refresh', client: client.id, phase: 'end' });
    assert.equal(refreshed.outcome, 'ok');
    assert.ok(begun.at < refreshed.at && refreshed.at < ended.at, JSON.stringify({ begun, refreshed, ended }));
    assert.equal(client.sdk.state, 'connected');
  },
};
