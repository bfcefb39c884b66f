//! The sending side of the links to one peer of one class: requests keep their order and their
//! tickets across links (R12), wait for credit, and are answered once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::credit::Credited;
use super::frame::Envelope;
use super::hello::Class;
use super::links::{Limits, LinkState};
use super::order::Outbox;
use super::stream::StreamError;
use super::view::{Direction, PeerView};
use crate::NodeId;

mod answer;
mod link;
mod state;

use answer::Hears;
pub use answer::{Answer, Answered, Answers, Mark, Reply, Sent, StreamAnswer};
pub(crate) use state::CONFIRM_EVERY;
use state::{State, Waiting};

const CASTS: usize = 1024;
const CAST_BYTES: usize = 16 * 1024 * 1024;

/// Why a message was not sent, or not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No such node is known.
    #[error("node {} is not known here", .0.0)]
    UnknownPeer(NodeId),
    /// Too much waits for that peer.
    #[error("too much waits for that peer")]
    Overloaded,
    /// It is larger than a frame may be.
    #[error("{length} bytes: a message has at most {limit}")]
    TooLarge {
        /// Its length in bytes.
        length: usize,
        /// What is allowed, in bytes.
        limit: usize,
    },
    /// Its deadline has passed; it may have started.
    #[error("no answer by the deadline")]
    Deadline,
    /// That life of the peer is over.
    #[error("the peer is gone")]
    Gone {
        /// False: it did certainly not start.
        may_have_started: bool,
    },
    /// The address could not be asked.
    #[error("{0}")]
    Link(String),
}

/// To one peer, of one class.
#[derive(Debug)]
pub(crate) struct Outbound {
    peer: Option<NodeId>,
    class: Class,
    limits: Limits,
    streams: Arc<AtomicUsize>,
    state: Mutex<State>,
    work: Notify,
    /// Nothing is unanswered any more.
    settled: Notify,
    /// Ends a wait between two dials.
    hurry: Notify,
    /// Speaks as someone who has not joined.
    stranger: bool,
}

impl Outbound {
    pub(crate) fn new(
        peer: Option<NodeId>,
        class: Class,
        addrs: Vec<String>,
        limits: Limits,
    ) -> Self {
        Self {
            peer,
            class,
            limits,
            streams: Arc::default(),
            state: Mutex::new(State::new(addrs, limits.credit)),
            work: Notify::new(),
            settled: Notify::new(),
            hurry: Notify::new(),
            stranger: false,
        }
    }

    /// It takes the place of so many earlier ones: their numbers are not used again (R12).
    pub(crate) fn after(self, earlier: u64) -> Self {
        self.lock().outbox = Outbox::after(earlier);
        self
    }

    /// It speaks as someone who has not joined.
    pub(crate) fn unknown(mut self) -> Self {
        self.stranger = true;
        self
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn readdress(&self, addrs: Vec<String>) {
        self.lock().addrs = addrs;
    }

    /// The peer was heard of: it is dialled without a further wait.
    pub(crate) fn hasten(&self) {
        if self.link_state() != LinkState::Up {
            self.hurry.notify_one();
        }
    }

    pub(crate) fn link_state(&self) -> LinkState {
        self.lock().link
    }

    pub(crate) fn unanswered(&self) -> usize {
        self.lock().waiting.len()
    }

    fn fits(&self, payload: &Bytes) -> Result<(), RequestError> {
        if payload.len() > self.limits.payload {
            return Err(RequestError::TooLarge {
                length: payload.len(),
                limit: self.limits.payload,
            });
        }
        Ok(())
    }

    /// Ends when nothing is unanswered.
    pub(crate) async fn drained(&self) {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            if self.unanswered() == 0 {
                return;
            }
            settled.await;
        }
    }

    /// Gives the lock back, then wakes who writes, if there is something.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let queue = state.take_unwoken();
        drop(state);
        if let Some(queue) = queue {
            queue.wake();
        }
    }

    fn wake_drained(&self, state: &State) {
        if state.waiting.is_empty() {
            self.settled.notify_waiters();
        }
    }

    /// For operators.
    pub(crate) fn view(&self) -> Option<PeerView> {
        let state = self.lock();
        let (credit_envelopes, waiting) = state.credit.in_flight();
        Some(PeerView {
            peer: self.peer?,
            class: self.class,
            direction: Direction::Out,
            state: state.link,
            since: state.since.elapsed(),
            heard: state.heard.map(|heard| heard.elapsed()),
            unanswered: state.waiting.len(),
            credit_envelopes,
            credit_bytes: state.credit.bytes(),
            waiting,
            streams: self.streams.load(Ordering::Relaxed),
            reconnects: state.reconnects,
            reason: state.reason.clone(),
        })
    }

    /// Sends a request that may be answered with a stream.
    pub(crate) fn request_stream(
        self: &Arc<Self>,
        kind: u8,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<StreamAnswer, RequestError> {
        if !self.has_room() {
            return Err(RequestError::Overloaded);
        }
        self.ask(kind, true, payload, deadline)
            .map(StreamAnswer::new)
    }

    fn has_room(&self) -> bool {
        self.streams.load(Ordering::Relaxed) < self.limits.streams
    }

    /// Sends a request, or lets it wait for credit or a link.
    pub(crate) fn request(
        self: &Arc<Self>,
        kind: u8,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<Answer, RequestError> {
        self.ask(kind, false, payload, deadline)
    }

    fn ask(
        self: &Arc<Self>,
        kind: u8,
        stream: bool,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<Answer, RequestError> {
        let (answer, receive) = oneshot::channel();
        let ticket = self.offer(kind, stream, payload, deadline, Hears::Once(answer))?;
        Ok(Answer::new(Arc::clone(self), ticket, deadline, receive))
    }

    /// Sends a request whose answer comes to a place, once. Nothing comes in place of an answer that
    /// does not come in time: whoever asked gives it up then.
    pub(crate) fn request_to(
        self: &Arc<Self>,
        (kind, stream): (u8, bool),
        payload: Bytes,
        deadline: Instant,
        (place, mark): (Arc<dyn Answers>, Mark),
    ) -> Result<Sent, RequestError> {
        if stream && !self.has_room() {
            return Err(RequestError::Overloaded);
        }
        let hears = Hears::at(place, mark);
        let ticket = self.offer(kind, stream, payload, deadline, hears)?;
        Ok(Sent::new(Arc::clone(self), ticket))
    }

    fn offer(
        self: &Arc<Self>,
        kind: u8,
        stream: bool,
        payload: Bytes,
        deadline: Instant,
        answer: Hears,
    ) -> Result<u64, RequestError> {
        let mut state = match self.admit(&payload) {
            Ok(state) => state,
            Err(why) => {
                answer.forget();
                return Err(why);
            }
        };
        state.used = Instant::now();
        state.next += 1;
        let ticket = state.next;
        let credited = state.credit.offer(ticket, payload.len());
        if credited == Credited::Shed {
            answer.forget();
            return Err(RequestError::Overloaded);
        }
        state.waiting.insert(
            ticket,
            Waiting {
                kind,
                stream,
                payload,
                deadline,
                answer,
                sent: false,
                id: 0,
                cancelled: false,
                credit: credited == Credited::Send,
            },
        );
        if credited == Credited::Send {
            state.send(ticket);
        }
        self.wake(state);
        self.work.notify_one();
        Ok(ticket)
    }

    fn admit(&self, payload: &Bytes) -> Result<MutexGuard<'_, State>, RequestError> {
        self.fits(payload)?;
        let state = self.lock();
        if state.gone {
            return Err(RequestError::Gone {
                may_have_started: false,
            });
        }
        Ok(state)
    }

    /// Sends a message that wants no answer. It is lost with its link.
    pub(crate) fn cast(&self, kind: u8, payload: Bytes) -> Result<(), RequestError> {
        self.fits(&payload)?;
        let mut state = self.lock();
        if state.gone {
            return Err(RequestError::Gone {
                may_have_started: false,
            });
        }
        state.used = Instant::now();
        let cast = Envelope::Cast { kind, payload };
        match state.queue.clone() {
            Some(queue) => {
                let (items, bytes) = queue.waiting();
                if items >= 4 * CASTS || (items > 0 && bytes + cast.weight() > CAST_BYTES) {
                    return Err(RequestError::Overloaded);
                }
                queue.push(cast);
            }
            None => {
                let bytes: usize = state.casts.iter().map(Envelope::weight).sum();
                if state.casts.len() >= CASTS || (bytes > 0 && bytes + cast.weight() > CAST_BYTES) {
                    return Err(RequestError::Overloaded);
                }
                state.casts.push_back(cast);
            }
        }
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    /// The peer's life is over: everything unanswered is told so.
    pub(crate) fn gone(&self) {
        let mut state = self.lock();
        state.gone = true;
        state.queue = None;
        if let Some(streams) = state.streams.take() {
            streams.end(&StreamError::Gone);
        }
        let waiting = std::mem::take(&mut state.waiting);
        let mut waiting: Vec<_> = waiting.into_iter().collect();
        waiting.sort_unstable_by_key(|(ticket, _)| *ticket);
        for (_, waiting) in waiting {
            waiting.answer.hear(Err(RequestError::Gone {
                may_have_started: waiting.sent,
            }));
        }
        self.wake_drained(&state);
        drop(state);
        self.work.notify_one();
    }

    /// Nobody waits for this answer any more. Events that were sent are cancelled; what is not an
    /// event goes on where it is.
    fn give_up(&self, ticket: u64) {
        let mut state = self.lock();
        let Some(waiting) = state.waiting.get(&ticket) else {
            return;
        };
        // One that was sent is answered some time; until then it holds its credit.
        let is_over = !waiting.sent || self.class == Class::Data;
        if let Some(taken) = is_over.then(|| state.cancel(ticket)).flatten() {
            taken.answer.forget();
        }
        self.wake_drained(&state);
        self.wake(state);
        self.work.notify_one();
    }

    /// Nobody wants what was asked for: the peer need not start it, or go on with it.
    fn cancel(&self, ticket: u64) {
        let mut state = self.lock();
        if let Some(taken) = state.cancel(ticket) {
            // It did not even leave.
            taken.answer.hear(Err(RequestError::Deadline));
        }
        self.wake_drained(&state);
        self.wake(state);
        self.work.notify_one();
    }
}
