//! One address of an endpoint: how it is, what is under way there, and its connections.
//!
//! Connections belong to the runtime that made them, so that a call is driven where its event is, and
//! either to calls or to streams: a stream whose client does not read holds up no call. As many are
//! opened as the server's limit of streams asks for.

use super::health::{Record, Rule, Verdict};
use super::stats::Target;
use super::tls::Tls;
use crate::client::{self, Connection, Windows};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::{Handle, Id};
use tokio::time::{Instant, timeout};

/// The most connections of one runtime to one address, for calls and for streams.
const MOST_CHANNELS: usize = 32;
/// The most streams of one connection.
const MOST_STREAMS: usize = 256;
/// How much of a stream that its client does not read may be here.
const STREAM_WINDOW: u32 = 1 << 16;
/// h2 ends a connection on which more small frames wait than half of its window, 256 bytes a frame,
/// allows: all streams of a connection may be full of the smallest messages and the window is still
/// large enough. What is here is bounded by the windows of the streams.
const STREAMS_WINDOW: u32 = (1 << 31) - 1;
const _: () = {
    let smallest = 8;
    let frames = MOST_STREAMS * STREAM_WINDOW as usize / smallest;
    assert!(frames * (256 - smallest) <= STREAMS_WINDOW as usize / 2);
};
/// For how long a new connection may not know yet how many calls its server takes at once.
const UNTOLD: Duration = Duration::from_millis(250);

/// What is asked for: they have connections and counts of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One message each way.
    Call,
    /// A subscription stream, for as long as it is open.
    Stream,
}

impl Kind {
    const fn windows(self) -> Windows {
        match self {
            Self::Call => Windows {
                stream: 1 << 20,
                connection: 4 << 20,
            },
            Self::Stream => Windows {
                stream: STREAM_WINDOW,
                connection: STREAMS_WINDOW,
            },
        }
    }
}

/// How connections are made.
#[derive(Debug)]
pub(super) struct Dialing {
    /// The longest that it may take.
    pub(super) limit: Duration,
    /// What secures them, for endpoints with TLS.
    pub(super) tls: Option<Arc<Tls>>,
}

/// One address.
#[derive(Debug)]
pub(super) struct Member {
    /// Where it is.
    pub(super) address: SocketAddr,
    /// Whose address it is.
    pub(super) target: Arc<Target>,
    dialing: Arc<Dialing>,
    calls: AtomicUsize,
    streams: AtomicUsize,
    record: Mutex<Record>,
    /// Connections of an older one get no more calls.
    generation: AtomicU64,
    slots: Mutex<Vec<Slot>>,
}

/// What is being dialled; clones wait for the same.
type Dialled = Shared<BoxFuture<'static, Result<(), Arc<str>>>>;

/// The connections of one runtime.
#[derive(Debug)]
struct Slot {
    runtime: Id,
    kind: Kind,
    open: Vec<Arc<Channel>>,
    dialled: Option<Dialled>,
}

/// A connection, and how many use it.
#[derive(Debug)]
pub(super) struct Channel {
    /// The connection.
    pub(super) connection: Connection,
    used: AtomicUsize,
    retired: AtomicBool,
    generation: u64,
    opened: Instant,
    /// Nanoseconds from then to the last answer.
    answered: AtomicU64,
}

/// A use of a connection, over when dropped.
#[derive(Debug)]
pub(super) struct InUse(Arc<Channel>);

impl InUse {
    /// The connection.
    pub(super) fn connection(&self) -> &Connection {
        &self.0.connection
    }

    /// Something was answered on it.
    pub(super) fn answered(&self) {
        let at = self.0.nanos(Instant::now());
        self.0.answered.store(at, Ordering::Relaxed);
    }

    /// Whether anything ever was.
    pub(super) fn has_answered(&self) -> bool {
        self.0.answered.load(Ordering::Relaxed) > 0
    }

    /// A call that began then was not answered in time. If nothing else was either since, the
    /// connection may be dead without a word, and takes no more calls.
    pub(super) fn doubt(&self, since: Instant) {
        if self.0.answered.load(Ordering::Relaxed) < self.0.nanos(since) {
            self.0.retired.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Member {
    /// An address of which nothing is known yet.
    pub(super) fn new(address: SocketAddr, target: &Arc<Target>, dialing: &Arc<Dialing>) -> Self {
        Self {
            address,
            target: Arc::clone(target),
            dialing: Arc::clone(dialing),
            calls: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            record: Mutex::default(),
            generation: AtomicU64::new(0),
            slots: Mutex::default(),
        }
    }

    /// What is under way there.
    pub(super) const fn under_way(&self, kind: Kind) -> &AtomicUsize {
        match kind {
            Kind::Call => &self.calls,
            Kind::Stream => &self.streams,
        }
    }

    /// When it takes calls again, if it is ejected.
    pub(super) fn ejected_until(&self, now: Instant) -> Option<Instant> {
        self.record().ejected_until(now)
    }

    /// Whether it could not even be reached the last time.
    pub(super) fn is_unreachable(&self) -> bool {
        self.record().is_unreachable()
    }

    /// Something was answered.
    pub(super) fn succeeded(&self, was_ejected: bool) {
        let mut record = self.record();
        if was_ejected || record.is_blemished() {
            record.succeeded(Instant::now(), was_ejected);
        }
    }

    /// Something has failed; how long it is ejected from now on, if it is. It is dialled anew then: a
    /// connection may be dead without a word.
    pub(super) fn failed(&self, rule: &Rule, verdict: Verdict) -> Option<Duration> {
        let out = self.record().failed(Instant::now(), rule, verdict)?;
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.target.ejections.add_one();
        Some(out)
    }

    /// A place on a connection of this runtime; a new one where none has room.
    ///
    /// # Errors
    /// None is open, and no new one could be opened.
    pub(super) async fn channel(self: &Arc<Self>, kind: Kind) -> Result<InUse, Arc<str>> {
        loop {
            let dialled = {
                let mut slots = self.slots();
                let slot = Slot::of(&mut slots, Handle::current().id(), kind);
                if let Some(place) = slot.place(self.generation()) {
                    return Ok(place);
                }
                match &slot.dialled {
                    Some(dialled) => dialled.clone(),
                    None => slot.dialled.insert(self.dial(kind)).clone(),
                }
            };
            dialled.await?;
        }
    }

    /// Dials in a task of its own: others wait for the same, and whoever began may go.
    fn dial(self: &Arc<Self>, kind: Kind) -> Dialled {
        let (member, runtime) = (Arc::clone(self), Handle::current().id());
        let task = tokio::spawn(async move {
            let channel = member.connect(kind).await;
            let mut slots = member.slots();
            let slot = Slot::of(&mut slots, runtime, kind);
            slot.dialled = None;
            slot.open.push(Arc::new(channel?));
            Ok(())
        });
        let gone = |_| Err("it was not dialled to the end".into());
        async move { task.await.unwrap_or_else(gone) }
            .boxed()
            .shared()
    }

    async fn connect(&self, kind: Kind) -> Result<Channel, Arc<str>> {
        let generation = self.generation();
        let (endpoint, limit) = (&self.target.address, self.dialing.limit);
        let tls = match (&self.dialing.tls, endpoint.tls) {
            (Some(tls), true) => Some(tls.secure(endpoint.bare_host())?),
            _ => None,
        };
        let authority = endpoint.authority();
        let dialled = client::dial(self.address, &authority, tls, kind.windows());
        let dialled = timeout(limit, dialled).await;
        let dialled = dialled.map_err(|_| format!("no connection within {limit:?}"))?;
        let (connection, _driver) = dialled?;
        Ok(Channel {
            connection,
            used: AtomicUsize::new(0),
            retired: AtomicBool::new(false),
            generation,
            opened: Instant::now(),
            answered: AtomicU64::new(0),
        })
    }

    /// Grows when the address was ejected, and when certificates were read again.
    fn generation(&self) -> u64 {
        let tls = self.dialing.tls.as_ref();
        let read = tls.map_or(0, |tls| tls.generation());
        self.generation.load(Ordering::Relaxed) + read
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// The slot of a runtime.
    fn of(slots: &mut Vec<Self>, runtime: Id, kind: Kind) -> &mut Self {
        let is_it = |slot: &Self| slot.runtime == runtime && slot.kind == kind;
        let at = slots.iter().position(is_it).unwrap_or_else(|| {
            // Runtimes that have ended have taken their connections with them.
            slots.retain(|slot| {
                let is_open = |it: &Arc<Channel>| !it.connection.is_closed();
                slot.dialled.is_some() || slot.open.iter().any(is_open)
            });
            slots.push(Self {
                runtime,
                kind,
                open: Vec::new(),
                dialled: None,
            });
            slots.len() - 1
        });
        &mut slots[at]
    }

    /// A place on the first connection that has room, or on any where there are enough of them.
    fn place(&mut self, generation: u64) -> Option<InUse> {
        self.open.retain(|channel| {
            let is_retired = channel.retired.load(Ordering::Relaxed);
            channel.generation == generation && !is_retired && !channel.connection.is_closed()
        });
        // A dial that nobody has seen to its end, since its runtime was busy with ending.
        if self.dialled.as_ref().is_some_and(|it| it.peek().is_some()) {
            self.dialled = None;
        }
        let used = |channel: &Channel| channel.used.load(Ordering::Relaxed);
        let roomy = self.open.iter().find(|it| used(it) < it.room(self.kind));
        let any = || {
            let is_enough = self.open.len() >= MOST_CHANNELS;
            is_enough.then(|| self.open.iter().min_by_key(|it| used(it)))?
        };
        let channel = roomy.or_else(any)?;
        channel.used.fetch_add(1, Ordering::Relaxed);
        Some(InUse(Arc::clone(channel)))
    }
}

impl Channel {
    fn nanos(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.opened).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX)
    }

    fn room(&self, kind: Kind) -> usize {
        let most = match kind {
            Kind::Call => usize::MAX,
            Kind::Stream => MOST_STREAMS,
        };
        if self.opened.elapsed() < UNTOLD {
            return most;
        }
        // A server that takes none at all is asked all the same.
        self.connection.room().clamp(1, most)
    }
}
