//! `limit`: refuses what comes too fast, by user, client, channel or whatever else names a bucket.
//!
//! A bucket is one number: the time at which it is full again. So idle buckets and full ones are the
//! same as none, and go first when room is needed. A node has one set of them per `limit`.

use crate::cx::Cx;
use crate::event::EventKind;
use crate::interceptor::{Flow, Interceptor};
use crate::outcome::{Failure, Overloaded};
use crate::routing::key::{BuildLaneHasher, KeySource, KeySpec, KeySpecError, KeyUse};
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use tokio::time::Instant;

/// Parts of the buckets with a lock each.
const SHARDS: usize = 16;

/// How many buckets there may be, in all parts together.
const BUCKETS: usize = 100_000;

/// How many buckets one part holds.
const SHARD_BUCKETS: usize = BUCKETS / SHARDS;

/// Lets a number of events a second pass, and a burst of them after a pause; the others are refused
/// as an overload. Events are counted by user (by client where there is none); connects, and what
/// comes from Centrifugo itself, all together.
///
/// At most 100 000 buckets are kept. Where all of them are in use, those nearest to full are
/// forgotten, which gives their owners a fresh burst.
#[derive(Debug)]
pub struct Limit {
    rate: Rate,
    per: Option<KeySpec>,
    buckets: Buckets,
}

impl Limit {
    /// A limit of so many events a second (above 0, else it is taken for the smallest rate), with a
    /// burst of as many, at least 1.
    pub fn per_second(rate: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float becomes the nearest number of the type"
        )]
        let burst = NonZeroU32::new(rate.ceil() as u32).unwrap_or(NonZeroU32::MIN);
        Self {
            rate: Rate::new(rate, burst),
            per: None,
            buckets: Buckets::new(),
        }
    }

    /// How many events may come at once after a pause.
    #[must_use]
    pub const fn burst(mut self, burst: NonZeroU32) -> Self {
        self.rate = self.rate.with_burst(burst);
        self
    }

    /// What is counted by itself: `user`, `client`, `channel`, `all`, or a template over `{user}
    /// {client} {channel} {method} {param.X} {data.X} {header.NAME}`. An event that lacks what the
    /// template names is refused as bad data.
    ///
    /// # Errors
    /// The text is neither.
    pub fn per(mut self, key: &str) -> Result<Self, KeySpecError> {
        self.per = Some(KeySpec::parse(key, KeyUse::Limit)?);
        Ok(self)
    }

    /// What events of a kind are counted by.
    pub(crate) fn key(&self, kind: EventKind) -> &KeySpec {
        use EventKind::{CacheEmpty, ChannelState, Connect, Raw, SharedPollRefresh};
        match (&self.per, kind) {
            (Some(key), _) => key,
            // No user yet, and every client is a new one; or neither at all.
            (None, Connect | SharedPollRefresh | CacheEmpty | ChannelState | Raw) => &KeySpec::All,
            (None, _) => &KeySpec::User,
        }
    }

    /// Takes a token for an event.
    fn admit(&self, kind: EventKind, source: &dyn KeySource) -> Result<(), Failure> {
        let key = self.key(kind).evaluate(source);
        let key = key.map_err(|why| Failure::BadData(why.to_string()))?;
        match key {
            Some(key) if !self.buckets.take(BuildLaneHasher.hash_one(&key), self.rate) => {
                Err(Failure::Overloaded(Overloaded::Rate))
            }
            _ => Ok(()),
        }
    }
}

impl Interceptor for Limit {
    const HAS_AFTER: bool = false;

    async fn before(&self, cx: &mut Cx) -> Flow {
        match self.admit(cx.kind(), cx) {
            Ok(()) => Flow::Next,
            // What no handler takes is refused further in, for the better reason.
            Err(Failure::BadData(_)) if cx.route().is_none() => Flow::Next,
            Err(refused) => refused.into(),
        }
    }
}

/// A rate and a burst, in nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Rate {
    /// What one event takes.
    each: u64,
    /// What may be taken in advance.
    burst: u64,
}

impl Rate {
    fn new(rate: f64, burst: NonZeroU32) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float becomes the nearest number of the type"
        )]
        let each = (1e9 / rate.max(f64::MIN_POSITIVE)) as u64;
        let each = each.clamp(1, u64::MAX / 4);
        Self { each, burst: 0 }.with_burst(burst)
    }

    const fn with_burst(self, burst: NonZeroU32) -> Self {
        Self {
            each: self.each,
            burst: self.each.saturating_mul(burst.get() as u64),
        }
    }
}

/// By the hash of a key (seeded, so that nobody can choose keys that collide) the time at which its
/// bucket is full again, in nanoseconds since the start. So a bucket has one size, whatever the key.
type BucketMap = HashMap<u64, u64, BuildLaneHasher>;

#[derive(Debug)]
struct Buckets {
    started: Instant,
    shards: [Mutex<BucketMap>; SHARDS],
}

impl Buckets {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            shards: Default::default(),
        }
    }

    /// Takes a token, if there is one.
    fn take(&self, key: u64, rate: Rate) -> bool {
        let now = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // The map takes the lowest and the highest bits.
        let shard = &self.shards[(key >> 32) as usize % SHARDS];
        let mut buckets = shard.lock().unwrap_or_else(PoisonError::into_inner);
        match buckets.get_mut(&key) {
            Some(full_at) => spend(full_at, now, rate),
            None => {
                if buckets.len() >= SHARD_BUCKETS {
                    make_room(&mut buckets, now);
                }
                let mut full_at = now;
                let taken = spend(&mut full_at, now, rate);
                buckets.insert(key, full_at);
                taken
            }
        }
    }
}

fn spend(full_at: &mut u64, now: u64, rate: Rate) -> bool {
    let next = (*full_at).max(now).saturating_add(rate.each);
    let taken = next - now <= rate.burst;
    if taken {
        *full_at = next;
    }
    taken
}

/// Forgets full buckets, and while that is too few those nearest to full: a quarter at once, so that
/// a flood of keys does not pay for it with every event.
fn make_room(buckets: &mut BucketMap, now: u64) {
    buckets.retain(|_, full_at| *full_at > now);
    let keep = SHARD_BUCKETS / 4 * 3;
    if buckets.len() <= keep {
        return;
    }
    let mut times: Vec<u64> = buckets.values().copied().collect();
    let surplus = times.len() - keep;
    let (_, last, _) = times.select_nth_unstable(surplus - 1);
    let (last, mut left) = (*last, surplus);
    buckets.retain(|_, full_at| {
        let forgotten = *full_at <= last && left > 0;
        left -= usize::from(forgotten);
        !forgotten
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bytes::Bytes;
    use std::time::Duration;
    use tokio::time::advance;

    #[derive(Default)]
    struct Source {
        user: &'static str,
        client: &'static str,
        header: Option<&'static str>,
    }

    impl KeySource for Source {
        fn user(&self) -> &str {
            self.user
        }
        fn client(&self) -> &str {
            self.client
        }
        fn channel(&self) -> &str {
            ""
        }
        fn method(&self) -> &str {
            ""
        }
        fn param(&self, _: &str) -> Option<&str> {
            None
        }
        fn data(&self) -> Option<Bytes> {
            None
        }
        fn header(&self, name: &str) -> Option<&str> {
            self.header.filter(|_| name == "x-real-ip")
        }
    }

    fn user(user: &'static str) -> Source {
        let client = "c";
        Source {
            user,
            client,
            header: None,
        }
    }

    fn admitted(limit: &Limit, kind: EventKind, source: &Source, tries: usize) -> usize {
        let admits = |_: &usize| limit.admit(kind, source).is_ok();
        (0..tries).filter(admits).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_at_once_and_then_one_event_for_each_turn_of_the_rate() {
        let limit = Limit::per_second(20.0).burst(NonZeroU32::new(5).unwrap());
        let rpc = EventKind::Rpc;
        assert_eq!(admitted(&limit, rpc, &user("ann"), 9), 5);
        assert_eq!(
            limit.admit(rpc, &user("ann")),
            Err(Failure::Overloaded(Overloaded::Rate))
        );
        advance(Duration::from_millis(49)).await;
        assert_eq!(admitted(&limit, rpc, &user("ann"), 9), 0);
        advance(Duration::from_millis(1)).await;
        assert_eq!(admitted(&limit, rpc, &user("ann"), 9), 1);
        advance(Duration::from_millis(100)).await;
        assert_eq!(admitted(&limit, rpc, &user("ann"), 9), 2);
        advance(Duration::from_secs(3600)).await;
        assert_eq!(
            admitted(&limit, rpc, &user("ann"), 9),
            5,
            "never over the burst"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn users_have_buckets_of_their_own_and_connects_share_one() {
        let limit = Limit::per_second(2.0);
        for name in ["ann", "bob", ""] {
            assert_eq!(
                admitted(&limit, EventKind::Rpc, &user(name), 5),
                2,
                "{name}"
            );
        }
        let client = |client| Source {
            client,
            ..Source::default()
        };
        let connect = EventKind::Connect;
        assert_eq!(admitted(&limit, connect, &client("1"), 1), 1);
        assert_eq!(admitted(&limit, connect, &client("2"), 1), 1);
        assert_eq!(admitted(&limit, connect, &client("3"), 1), 0);
        let nobody = Source::default();
        assert_eq!(
            admitted(&limit, EventKind::CacheEmpty, &nobody, 1),
            0,
            "same bucket"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_by_header_counts_by_its_value_and_refuses_events_without_it() {
        let limit = Limit::per_second(1.0).per("{header.X-Real-IP}").unwrap();
        let from = |header| Source {
            header,
            ..user("ann")
        };
        assert_eq!(
            admitted(&limit, EventKind::Rpc, &from(Some("10.0.0.1")), 3),
            1
        );
        assert_eq!(
            admitted(&limit, EventKind::Rpc, &from(Some("10.0.0.2")), 3),
            1
        );
        let refused = limit.admit(EventKind::Rpc, &from(None)).unwrap_err();
        assert!(
            matches!(&refused, Failure::BadData(why) if why.contains("header.x-real-ip")),
            "{refused}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_keys_keeps_its_bound_and_spares_who_has_spent_most() {
        let limit = Limit::per_second(0.001).burst(NonZeroU32::new(3).unwrap());
        let spender = BuildLaneHasher.hash_one(7_u64);
        while limit.buckets.take(spender, limit.rate) {}
        for key in 0..3 * BUCKETS as u64 {
            let key = xxhash_rust::xxh3::xxh3_64_with_seed(&key.to_le_bytes(), 0);
            assert!(limit.buckets.take(key, limit.rate));
        }
        let sizes = limit.buckets.shards.iter().map(|s| s.lock().unwrap().len());
        let sizes: Vec<usize> = sizes.collect();
        assert!(sizes.iter().all(|size| *size <= SHARD_BUCKETS), "{sizes:?}");
        assert!(!limit.buckets.take(spender, limit.rate), "still spent");
    }

    #[tokio::test(start_paused = true)]
    async fn buckets_that_are_full_again_go_first() {
        let limit = Limit::per_second(10.0).burst(NonZeroU32::new(10).unwrap());
        let mut buckets = BucketMap::default();
        let second = 1_000_000_000;
        for key in 0..SHARD_BUCKETS as u64 {
            buckets.insert(key, if key < 10 { 2 * second } else { second });
        }
        make_room(&mut buckets, second);
        assert_eq!(buckets.len(), 10);
        assert!(buckets.values().all(|full_at| *full_at == 2 * second));
        assert_eq!(limit.rate.each, second / 10);
    }

    #[tokio::test(start_paused = true)]
    async fn extreme_rates_neither_panic_nor_let_all_pass() {
        for rate in [f64::NAN, -1.0, 0.0, 1e-300] {
            let limit = Limit::per_second(rate);
            assert_eq!(
                admitted(&limit, EventKind::Rpc, &user("ann"), 3),
                1,
                "{rate}"
            );
            advance(Duration::from_secs(1_000_000)).await;
            assert_eq!(
                admitted(&limit, EventKind::Rpc, &user("ann"), 3),
                0,
                "{rate}"
            );
        }
        let limit = Limit::per_second(f64::INFINITY);
        assert_eq!(admitted(&limit, EventKind::Rpc, &user("ann"), 1000), 1000);
    }
}
