//! The receiving side of one peer's links of one class: what has come, what runs, what is answered.
//! It outlives the single link (R12).

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncRead;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::frame::{Envelope, FrameReader, Outcome};
use super::hello::LinkError;
use super::links::{Handler, Limits, LinkState, Remote, SILENCE};
use super::order::{Arrived, Inbox};
use super::outbound::CONFIRM_EVERY;
use super::queue::Queue;
use super::request::Request;
use super::stream::{StreamError, StreamRx, StreamTx};
use super::streams::Streams;
use super::view::{Direction, PeerView};
use crate::ids::{IdMap, IdSet};

/// A link without a byte for so long is closed by its listener.
pub(crate) const LISTENER_SILENCE: Duration = Duration::from_secs(5);
/// Why a link ends when the next of its life is open.
const REPLACED: &str = "a newer link replaces it";
/// So many answers may wait to be confirmed, as a multiple of the credit, or of what is confirmed at
/// once where that is more.
const KEPT: usize = 4;

/// What a stream is answered with whose link was lost before its sender heard of it.
const STREAM_LOST: &[u8] = b"the link of the stream was lost";

/// Where an incoming link writes, what ends it, and its streams, which end with it.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) queue: Arc<Queue>,
    pub(crate) stop: Notify,
    pub(crate) streams: Arc<Streams>,
}

#[derive(Debug)]
struct State {
    inbox: Inbox,
    way: Option<Arc<Way>>,
    link: u64,
    heard: Instant,
    /// What takes credit, by id, with its bytes.
    taken: IdMap<u64, usize>,
    /// The sum of those bytes.
    held: usize,
    answers: IdMap<u64, Envelope>,
    /// What has started and nobody waits for any more.
    cancelled: IdSet<u64>,
    /// Who is to hear that nobody waits, by id.
    wakers: IdMap<u64, Waker>,
    dead: bool,
    /// The table calls its life dead, and it has not come back since.
    cut: bool,
    /// Since when there is a link, or none.
    since: Instant,
    opened: u64,
    reason: Option<String>,
}

impl State {
    /// It is over: whether anybody waits matters no more.
    fn forget(&mut self, id: u64) {
        self.cancelled.remove(&id);
        self.wakers.remove(&id);
    }

    /// Its life is over, as far as is known: nobody waits for what runs, and its link closes.
    fn end(&mut self) {
        std::mem::take(&mut self.wakers)
            .into_values()
            .for_each(Waker::wake);
        if let Some(way) = self.way.take() {
            way.streams.end(&StreamError::Gone);
            way.stop.notify_one();
        }
    }

    /// Gives credit back, once.
    fn release(&mut self, id: u64) -> bool {
        let bytes = self.taken.remove(&id);
        self.held -= bytes.unwrap_or(0);
        bytes.is_some()
    }
}

/// One dialling life, one class.
pub(crate) struct Inbound {
    remote: Remote,
    limits: Limits,
    handler: Arc<dyn Handler>,
    streams: Arc<AtomicUsize>,
    state: Mutex<State>,
}

impl std::fmt::Debug for Inbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Inbound").field(&self.remote).finish()
    }
}

impl Inbound {
    pub(crate) fn new(remote: Remote, limits: Limits, handler: Arc<dyn Handler>) -> Self {
        Self {
            remote,
            limits,
            handler,
            streams: Arc::default(),
            state: Mutex::new(State {
                inbox: Inbox::new(),
                way: None,
                link: 0,
                heard: Instant::now(),
                taken: IdMap::default(),
                held: 0,
                answers: IdMap::default(),
                cancelled: IdSet::default(),
                wakers: IdMap::default(),
                dead: false,
                cut: false,
                since: Instant::now(),
                opened: 0,
                reason: None,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) const fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Whether a link is open and was heard of just now.
    pub(crate) fn is_alive(&self) -> bool {
        let state = self.lock();
        state.way.is_some() && state.heard.elapsed() < SILENCE
    }

    /// The table calls its life dead: its link closes, and nothing that has come on it starts any more.
    /// What has started is not forgotten: the life may not have heard of its end, and come back (R12).
    pub(crate) fn cut(&self) {
        let mut state = self.lock();
        state.cut = true;
        for id in state.inbox.cut() {
            state.release(id);
        }
        let running: Vec<u64> = state.inbox.running().collect();
        state.cancelled.extend(running);
        state.end();
    }

    /// Its life is over, and a newer one is here: nothing of it starts any more, and its link closes.
    pub(crate) fn kill(&self) {
        let mut state = self.lock();
        state.dead = true;
        state.end();
    }

    /// A link opens: the old one ends, what it left unstarted is dropped, what was answered is
    /// answered again.
    pub(crate) fn open(&self, link: u64, protocol: u16) -> Result<Arc<Way>, LinkError> {
        let mut state = self.lock();
        let opened = state.inbox.open(link)?;
        for id in &opened.dropped {
            state.release(*id);
        }
        let queue = Arc::<Queue>::default();
        let way = Arc::new(Way {
            streams: Streams::new(
                Arc::clone(&queue),
                Arc::clone(&self.streams),
                self.limits.payload,
            ),
            queue,
            stop: Notify::new(),
        });
        way.queue.push(Envelope::Welcome {
            protocol,
            started: opened.started,
        });
        for answer in opened
            .answered
            .iter()
            .filter_map(|id| state.answers.get(id))
        {
            way.queue.push(answer.clone());
        }
        if state.dead {
            way.streams.end(&StreamError::Gone);
            way.stop.notify_one();
        }
        if let Some(old) = state.way.replace(Arc::clone(&way)) {
            old.streams.lost(REPLACED);
            old.stop.notify_one();
            state.reason = Some(REPLACED.to_owned());
        }
        let now = Instant::now();
        (state.link, state.heard, state.since) = (link, now, now);
        state.opened += 1;
        state.cut = false;
        Ok(way)
    }

    /// A link is over, and why.
    pub(crate) fn closed(&self, link: u64, why: String) {
        let mut state = self.lock();
        if state.link == link {
            state.way = None;
            (state.since, state.reason) = (Instant::now(), Some(why));
        }
    }

    /// What waits to be read of each stream, for tests.
    #[cfg(test)]
    pub(crate) fn unread(&self) -> Vec<(usize, usize)> {
        let state = self.lock();
        state
            .way
            .as_ref()
            .map_or_else(Vec::new, |way| way.streams.unread())
    }

    /// For operators; `None` where the life is dead.
    pub(crate) fn view(&self) -> Option<PeerView> {
        let state = self.lock();
        (!state.cut).then(|| PeerView {
            peer: self.remote.member.id,
            class: self.remote.class,
            direction: Direction::In,
            state: match &state.way {
                Some(_) if state.heard.elapsed() < SILENCE => LinkState::Up,
                Some(_) => LinkState::Silent,
                None => LinkState::Down,
            },
            since: state.since.elapsed(),
            heard: (state.opened > 0).then(|| state.heard.elapsed()),
            unanswered: state.inbox.unanswered(),
            credit_envelopes: state.taken.len(),
            credit_bytes: state.held,
            waiting: 0,
            streams: self.streams.load(Ordering::Relaxed),
            reconnects: state.opened.saturating_sub(1),
            reason: state.reason.clone(),
        })
    }

    /// Reads a link until it ends.
    pub(crate) async fn read<R: AsyncRead + Unpin>(
        self: &Arc<Self>,
        reader: &mut FrameReader<R>,
        link: u64,
        streams: &Streams,
    ) -> Result<(), LinkError> {
        let (mut last, mut heard) = (Instant::now(), reader.heard());
        // Set once; when it is over it is set anew, if something came meanwhile.
        let mut silence = pin!(sleep_until(last + LISTENER_SILENCE));
        loop {
            let batch = tokio::select! {
                biased;
                batch = reader.next() => batch?,
                () = &mut silence => {
                    let now = Instant::now();
                    if reader.heard() != heard {
                        (last, heard) = (now, reader.heard());
                    } else if last + LISTENER_SILENCE <= now {
                        return Err(LinkError::Silent(LISTENER_SILENCE.as_millis()));
                    }
                    silence.as_mut().reset(last + LISTENER_SILENCE);
                    continue;
                }
            };
            (last, heard) = (Instant::now(), reader.heard());
            self.lock().heard = last;
            for envelope in batch {
                if matches!(envelope, Envelope::Bye) {
                    return Ok(());
                }
                if let Some(envelope) = streams.take(envelope)? {
                    self.take(link, envelope)?;
                }
            }
        }
    }

    fn take(self: &Arc<Self>, link: u64, envelope: Envelope) -> Result<(), LinkError> {
        match envelope {
            Envelope::Request {
                id,
                deadline_ms,
                kind,
                stream,
                payload,
            } => {
                let left = Duration::from_millis(u64::from(deadline_ms));
                let inbound = Arc::clone(self);
                self.request(
                    link,
                    left,
                    Request::new(inbound, id, kind, stream, payload, Instant::now() + left),
                )
            }
            Envelope::Cast { kind, payload } => {
                self.handler.cast(&self.remote, kind, payload);
                Ok(())
            }
            Envelope::Confirm { ids } => {
                let mut state = self.lock();
                state.inbox.confirmed_each(&ids);
                for id in ids {
                    state.answers.remove(&id);
                }
                Ok(())
            }
            Envelope::Cancelled { id } => {
                self.cancel(id);
                Ok(())
            }
            Envelope::Ping => Ok(()),
            _ => Err(LinkError::Broken(
                "a dialler sends requests, casts, streams and confirmations",
            )),
        }
    }

    fn request(&self, link: u64, left: Duration, request: Request) -> Result<(), LinkError> {
        let (id, bytes) = (request.id(), request.payload().len());
        let credit = self.limits.credit;
        let mut state = self.lock();
        let full = state.taken.len() >= credit.envelopes
            || (!state.taken.is_empty() && state.held + bytes > credit.bytes);
        if full || state.answers.len() > KEPT * credit.envelopes.max(CONFIRM_EVERY) {
            drop(state);
            request.forget();
            return Err(LinkError::Broken("it sends more than it has credit for"));
        }
        let arrived = state.inbox.arrived(link, id);
        if arrived == Arrived::Accept {
            state.taken.insert(id, bytes);
            state.held += bytes;
        }
        drop(state);
        match arrived {
            Arrived::Accept if left.is_zero() => request.expire(),
            Arrived::Accept => self.handler.request(&self.remote, request),
            Arrived::Drop => request.forget(),
            Arrived::CloseLink => {
                request.forget();
                return Err(LinkError::Broken("an id does not rise"));
            }
        }
        Ok(())
    }

    pub(super) fn answer(&self, id: u64, outcome: Outcome, payload: Bytes, started: bool) {
        let (outcome, payload) = if payload.len() > self.limits.payload {
            (Outcome::Dropped, Bytes::from_static(b"answer too large"))
        } else {
            (outcome, payload)
        };
        let load = self.handler.load();
        let mut state = self.lock();
        let known = if started {
            state.forget(id);
            state.inbox.finish(id).is_some()
        } else {
            state.inbox.bounce(id)
        };
        if !known || state.dead {
            return;
        }
        state.release(id);
        let reply = Envelope::Reply {
            id,
            outcome: outcome.code(),
            load,
            payload,
        };
        let way = state.way.clone();
        if let Some(way) = &way {
            way.queue.put(reply.clone());
        }
        if started {
            state.answers.insert(id, reply);
        }
        // It may take a call of the system.
        drop(state);
        if let Some(way) = way {
            way.queue.wake();
        }
    }

    /// Nobody waits for a request any more. One that has not started never does, and is answered at
    /// once; whoever runs one is told.
    fn cancel(&self, id: u64) {
        let load = self.handler.load();
        let mut state = self.lock();
        if state.inbox.bounce(id) {
            state.release(id);
            if let Some(way) = &state.way {
                way.queue.push(Envelope::Reply {
                    id,
                    outcome: Outcome::Expired.code(),
                    load,
                    payload: Bytes::new(),
                });
            }
        } else if state.inbox.is_running(id) && state.cancelled.insert(id) {
            let waker = state.wakers.remove(&id);
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Ready once nobody waits for a request that has started.
    pub(super) fn poll_cancelled(&self, id: u64, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.dead || state.cancelled.contains(&id) {
            return Poll::Ready(());
        }
        if state.inbox.is_running(id) {
            match state.wakers.get_mut(&id) {
                Some(waker) => waker.clone_from(cx.waker()),
                None => drop(state.wakers.insert(id, cx.waker().clone())),
            }
        }
        Poll::Pending
    }

    /// The largest payload, in bytes.
    pub(super) const fn payload_limit(&self) -> usize {
        self.limits.payload
    }

    /// The most streams.
    pub(super) const fn stream_limit(&self) -> usize {
        self.limits.streams
    }

    /// A request is about to start: whether it may.
    pub(super) fn start(&self, id: u64) -> bool {
        let mut state = self.lock();
        !state.dead && state.inbox.start(id)
    }

    /// A request that has started gives its credit back.
    pub(super) fn release_credit(&self, id: u64) {
        let mut state = self.lock();
        if state.release(id)
            && let Some(way) = &state.way
        {
            way.queue.push(Envelope::Accepted { id });
        }
    }

    /// Whether one more stream may be opened now.
    pub(super) fn has_room(&self) -> bool {
        let state = self.lock();
        let way = state.way.as_ref();
        way.is_none_or(|way| way.streams.has_room(self.limits.streams))
    }

    /// Answers a request that has started with a stream on the link that is open now. Should that
    /// be lost before its sender hears of it, the request is answered so on the next one (R12).
    pub(super) fn accept(&self, id: u64, first: Bytes) -> Option<(StreamTx, StreamRx)> {
        let load = self.handler.load();
        let mut state = self.lock();
        state.forget(id);
        if state.inbox.finish(id).is_none() || state.dead {
            return None;
        }
        state.release(id);
        let lost = Envelope::Reply {
            id,
            outcome: Outcome::Dropped.code(),
            load,
            payload: Bytes::from_static(STREAM_LOST),
        };
        state.answers.insert(id, lost);
        let way = state.way.as_ref()?;
        let ends = way.streams.open(id);
        way.queue.push(Envelope::StreamOpened {
            id,
            load,
            payload: first,
        });
        Some(ends)
    }
}
