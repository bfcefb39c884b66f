//! A request of a peer, in the hands of whoever answers it.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::time::Instant;

use super::frame::Outcome;
use super::inbound::Inbound;
use super::links::Remote;
use super::stream::{StreamRx, StreamTx};

/// Why a request was not answered with a stream. Where it comes back, it still wants an answer.
#[derive(Debug, thiserror::Error)]
pub enum NotAccepted {
    /// Its link was replaced or its sender is gone: nothing is left to do. If it had not started it
    /// is sent again, else its sender is told.
    #[error("the link of the request is gone")]
    Replaced,
    /// Its sender wants one answer.
    #[error("the sender of this request wants one answer, no stream")]
    NotWanted(Box<Request>),
    /// There are so many already, or so much waits to be written to its sender.
    #[error("no more than {limit} streams may be open with one peer")]
    TooMany {
        /// How many may be.
        limit: usize,
        /// The request.
        request: Box<Request>,
    },
    /// What the stream begins with is too large.
    #[error("{length} bytes: a stream begins with at most {limit}")]
    TooLarge {
        /// Its length in bytes.
        length: usize,
        /// What is allowed, in bytes.
        limit: usize,
        /// The request.
        request: Box<Request>,
    },
}

/// A peer's request. Whoever drops it unanswered answers it: as not started, or, once it has started,
/// as dropped.
#[derive(Debug)]
pub struct Request {
    inbound: Arc<Inbound>,
    id: u64,
    kind: u8,
    stream: bool,
    payload: Bytes,
    deadline: Instant,
    started: bool,
    done: bool,
}

impl Request {
    pub(super) const fn new(
        inbound: Arc<Inbound>,
        id: u64,
        kind: u8,
        stream: bool,
        payload: Bytes,
        deadline: Instant,
    ) -> Self {
        Self {
            inbound,
            id,
            kind,
            stream,
            payload,
            deadline,
            started: false,
            done: false,
        }
    }

    pub(super) const fn id(&self) -> u64 {
        self.id
    }

    /// What the payload is, in the user's terms.
    pub const fn kind(&self) -> u8 {
        self.kind
    }

    /// The request itself; it shares memory with the frame that it came in.
    pub const fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// When its sender stops waiting.
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Who sent it.
    pub fn from(&self) -> &Remote {
        self.inbound.remote()
    }

    /// To be asked right before it runs: whether it may. It may not when its link was replaced: then
    /// its sender sends it again (R12); nor when its sender waits no more: that is answered.
    pub fn start(&mut self) -> bool {
        if !self.started && !self.done {
            self.started = self.inbound.start(self.id);
            self.done = !self.started;
        }
        self.started
    }

    /// Ready once its sender does not wait for the answer any more, or is gone; pending before it has
    /// started. It wants an answer all the same.
    pub fn poll_cancelled(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.started {
            return Poll::Pending;
        }
        self.inbound.poll_cancelled(self.id, cx)
    }

    /// It has started and will go on for long: its credit goes back now. It is answered as any other.
    pub fn release_credit(&mut self) {
        if self.start() {
            self.inbound.release_credit(self.id);
        }
    }

    /// Whether it may be answered with a stream.
    pub const fn wants_stream(&self) -> bool {
        self.stream
    }

    /// Answers it with a stream that begins with `first`: frames both ways, each direction with a
    /// window of its own. Its credit goes back. Without [`Self::start`] before, it starts here. Its
    /// deadline means nothing to the stream.
    ///
    /// # Errors
    /// If its link is gone, its sender wants none, there are too many, or `first` is larger than a
    /// payload may be.
    pub fn accept(mut self, first: Bytes) -> Result<(StreamTx, StreamRx), NotAccepted> {
        if !self.stream {
            return Err(NotAccepted::NotWanted(Box::new(self)));
        }
        let (length, limit) = (first.len(), self.inbound.payload_limit());
        if length > limit {
            return Err(NotAccepted::TooLarge {
                length,
                limit,
                request: Box::new(self),
            });
        }
        if !self.inbound.has_room() {
            return Err(NotAccepted::TooMany {
                limit: self.inbound.stream_limit(),
                request: Box::new(self),
            });
        }
        if !self.start() {
            return Err(NotAccepted::Replaced);
        }
        self.done = true;
        self.inbound
            .accept(self.id, first)
            .ok_or(NotAccepted::Replaced)
    }

    /// Answers it. Without [`Self::start`] before, it starts here.
    pub fn reply(mut self, payload: Bytes) {
        if self.start() {
            self.finish(Outcome::Answered, payload);
        }
    }

    /// Sends it back unstarted, with the reason. One that has started is answered as dropped.
    pub fn bounce(mut self, why: Bytes) {
        let outcome = if self.started {
            Outcome::Dropped
        } else {
            Outcome::NotStarted
        };
        self.finish(outcome, why);
    }

    pub(super) fn expire(mut self) {
        self.finish(Outcome::Expired, Bytes::new());
    }

    /// It did not come: nothing is said of it.
    pub(super) fn forget(mut self) {
        self.done = true;
    }

    fn finish(&mut self, outcome: Outcome, payload: Bytes) {
        if !std::mem::replace(&mut self.done, true) {
            self.inbound.answer(self.id, outcome, payload, self.started);
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let outcome = if self.started {
            Outcome::Dropped
        } else {
            Outcome::NotStarted
        };
        self.finish(outcome, Bytes::new());
    }
}
