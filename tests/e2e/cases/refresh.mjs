// Refresh and sub refresh: what extends, what ends, and what may not leave since it would end or
// extend by accident. Directives for these events stand in the connection meta.
import assert from 'node:assert/strict';
import { until } from '../world.mjs';

const expiring = (expire_in, meta, more = {}) => ({ do: 'result', result: { user: 'u1', expire_in, meta, ...more } });
const subscribed = (expire_in) => ({ do: 'result', result: { expire_in } });
const HOUR = { do: 'result', result: { expire_in: 3600 } };

// A subscription that expires soon, whose refreshes are answered as `directive` says.
async function expiringSub(w, directive) {
  const client = await w.connected(w.quick, { do: 'result', result: { user: 'u1', meta: { sub_refresh: directive } } });
  const channel = w.name('live:');
  const sub = client.subscribe(channel, subscribed(1));
  await sub.wait('subscribed', {});
  const asked = (nth, limitMs) => w.journal.wait({ event: 'sub_refresh', subject: channel, phase: 'end' }, limitMs, nth);
  return { client, channel, sub, asked };
}

// How often a subscription was asked for.
const seen = (w, { channel }) => w.journal.all({ event: 'sub_refresh', subject: channel, phase: 'end' }).length;

// Whatever goes wrong with a sub refresh, the subscription lives and is asked for again 60 s later
// (and the check period, and the delay, which are 1 s each where this runs).
async function askedAgain({ sub, asked }, outcome) {
  const first = await asked(1, 10_000);
  assert.equal(first.outcome, outcome);
  const second = await asked(2, 75_000);
  const later = (second.at - first.at) / 1000;
  assert.ok(later > 59 && later < 66, `asked again after ${later} s`);
  assert.equal(sub.sdk.state, 'subscribed');
  assert.equal(sub.events.filter(({ name }) => name === 'subscribing').length, 1);
}

export const cases = {
  'C47 refresh is called when the connection expires, with the user and the meta': async (w) => {
    const started = Date.now();
    const meta = { refresh: { do: 'result', result: { expire_in: 3600, meta: { seen: true } } } };
    const client = await w.connected(w.main, expiring(3, meta, { user: 'u47' }));
    const line = await w.journal.wait({ event: 'refresh', client: client.id, phase: 'begin' }, 10_000);
    assert.equal(line.user, 'u47');
    const after = line.at - started;
    assert.ok(after > 2_500 && after < 5_500, `asked after ${after} ms`);
    // The mirror found what to do in the meta, so it was there.
    await until('the new meta', async () => (await client.rpc('r', { do: 'echo' })).meta?.seen === true);
  },

  'C48 an expiry in the future keeps the connection, and expired ends it with 3005': async (w) => {
    const again = { do: 'result', result: { expire_in: 1 } };
    const kept = await w.connected(w.main, expiring(1, { refresh: again }));
    await w.journal.wait({ event: 'refresh', client: kept.id, phase: 'end', outcome: 'ok' }, 15_000, 3);
    assert.equal(kept.all('connected').length, 1);
    assert.equal(kept.sdk.state, 'connected');
    const over = await w.connected(w.main, expiring(1, { refresh: { do: 'result', result: { expired: true } } }));
    await over.wait('connecting', { code: 3005 });
    // A refusal of any other form is said in the only words that Centrifugo heeds.
    for (const refusal of [{ do: 'error', code: 1403, message: 'no' }, { do: 'disconnect', code: 4403, reason: 'no' }]) {
      const refused = await w.connected(w.main, expiring(1, { refresh: refusal }));
      await refused.wait('connecting', { code: 3005 });
    }
  },

  'C49 a refresh result without an expiry does not leave: it would end the session, which lives on': async (w) => {
    const client = await w.connected(w.main, expiring(1, { refresh: { do: 'result', result: {} } }));
    const line = await w.journal.wait({ event: 'refresh', client: client.id, phase: 'end' }, 10_000);
    assert.equal(line.outcome, 'bad_reply');
    await w.barrier(client);
    assert.equal(client.all('connected').length, 1);
    assert.equal(client.sdk.state, 'connected');
    // Said in words it leaves, and does what it does.
    const meant = await w.connected(w.main, expiring(1, { refresh: { do: 'empty' } }));
    await meant.wait('connecting', { code: 3005 });
  },

  'C51 the meta of a refresh result replaces the stored one': async (w) => {
    const meta = { v: 1, refresh: { do: 'result', result: { expire_in: 3600, meta: { v: 2 } } } };
    const client = await w.connected(w.main, expiring(2, meta));
    assert.deepEqual((await client.rpc('r', { do: 'echo' })).meta, meta);
    await until('the new meta', async () => (await client.rpc('r', { do: 'echo' })).meta.v === 2);
    assert.deepEqual((await client.rpc('r', { do: 'echo' })).meta, { v: 2 });
  },

  'C56 a subscription that expires is asked for 25 to 52 s after its expiry': async (w) => {
    // Centrifugo's own periods, untouched.
    const client = await w.connected(w.serial, undefined);
    const channel = w.name('live:');
    // It expires a second after an answer that came between the two.
    const asked = Date.now();
    const sub = client.subscribe(channel, subscribed(1));
    await sub.wait('subscribed', {});
    const answered = Date.now();
    const line = await w.journal.wait({ event: 'sub_refresh', subject: channel, phase: 'begin' }, 60_000);
    const after = [answered, asked].map((from) => (line.at - from) / 1000 - 1);
    assert.ok(after[1] > 23.5 && after[0] < 53.5, `asked after ${after[0]} to ${after[1]} s`);
    assert.equal(line.client, client.id);
    assert.equal(sub.sdk.state, 'subscribed');
  },

  'C70 a sub refresh extends, and expired unsubscribes with 2501 and lets the client come back': async (w) => {
    const kept = await expiringSub(w, { do: 'result', result: { expire_in: 1 } });
    await kept.asked(3, 15_000);
    assert.equal(kept.sub.all('subscribed').length, 1);
    const over = await expiringSub(w, { do: 'result', result: { expired: true } });
    await over.sub.wait('subscribing', { code: 2501 }, 10_000);
    await w.journal.wait({ event: 'subscribe', subject: over.channel, phase: 'begin' }, undefined, 2);
    // An extension by an hour is not asked for again: later ones of another subscription come first.
    const long = await expiringSub(w, HOUR);
    await long.asked(1, 10_000);
    await kept.asked(seen(w, kept) + 2, 15_000);
    assert.equal(w.journal.all({ event: 'sub_refresh', subject: long.channel, phase: 'end' }).length, 1);
  },

  'C71 a sub refresh result without an expiry does not leave: it would remove the expiry for good': async (w) => {
    await askedAgain(await expiringSub(w, { do: 'result', result: {} }), 'bad_reply');
  },

  'C72 a router that fails keeps the subscription, which is asked for again a minute later': async (w) => {
    await askedAgain(await expiringSub(w, { do: 'fail' }), 'panic');
  },
};
