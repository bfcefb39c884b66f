//! Answers of a peer, and those to come.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::state::Outcomes;
use super::{Outbound, RequestError};
use crate::peer::frame::Outcome;
use crate::peer::stream::OpenStream;

/// An answer of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// What it says.
    pub outcome: Outcome,
    /// How much the peer has in flight.
    pub load: u32,
    /// The answer itself.
    pub payload: Bytes,
}

/// How a request that may be answered with a stream was answered.
#[derive(Debug)]
pub enum Answered {
    /// As any other.
    Reply(Reply),
    /// With a stream.
    Stream(OpenStream),
}

/// How the user of a request knows it, where answers come to one place for many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark {
    /// The user's own number for what was asked.
    pub id: u64,
    /// Which time it was asked.
    pub attempt: u32,
}

/// A place that answers come to. It is called where links are read, with locks held: it puts away
/// what it gets and does nothing more.
pub trait Answers: Send + Sync + std::fmt::Debug + 'static {
    /// What became of a request. Each is told of once, save one that was given up.
    fn come(&self, mark: Mark, answer: Result<Answered, RequestError>);
}

/// Who hears of an answer.
#[derive(Debug)]
pub(super) enum Hears {
    /// Whoever waits for this one.
    Once(oneshot::Sender<Outcomes>),
    /// A place for many.
    Place(Told),
}

impl Hears {
    pub(super) fn at(place: Arc<dyn Answers>, mark: Mark) -> Self {
        Self::Place(Told(Some((place, mark))))
    }

    pub(super) fn hear(self, answer: Outcomes) {
        match self {
            // Nobody may wait any more.
            Self::Once(waits) => drop(waits.send(answer)),
            Self::Place(mut told) => told.tell(answer),
        }
    }

    /// Nobody is to hear anything.
    pub(super) fn forget(self) {
        if let Self::Place(mut told) = self {
            told.0 = None;
        }
    }
}

/// A place and the request that it is to hear of. Dropped, it hears that the peer is gone.
#[derive(Debug)]
pub(super) struct Told(Option<(Arc<dyn Answers>, Mark)>);

impl Told {
    fn tell(&mut self, answer: Outcomes) {
        if let Some((place, mark)) = self.0.take() {
            place.come(mark, answer);
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.tell(Err(RequestError::Gone {
            may_have_started: true,
        }));
    }
}

/// A request whose answer comes to a place for many.
#[derive(Debug)]
pub struct Sent {
    outbound: Arc<Outbound>,
    ticket: u64,
}

impl Sent {
    pub(super) const fn new(outbound: Arc<Outbound>, ticket: u64) -> Self {
        Self { outbound, ticket }
    }

    /// As [`Answer::cancel`].
    pub fn cancel(&self) {
        self.outbound.cancel(self.ticket);
    }

    /// Nobody is to hear of it any more: as a dropped [`Answer`].
    pub fn give_up(&self) {
        self.outbound.give_up(self.ticket);
    }
}

/// The answer to come. Dropped, the request is taken back where it has not been sent; where it has,
/// one on a data link is cancelled, any other goes on.
#[derive(Debug)]
pub struct Answer {
    outbound: Arc<Outbound>,
    ticket: u64,
    deadline: Instant,
    receive: oneshot::Receiver<Outcomes>,
    /// It has come: nothing is to be taken back.
    here: bool,
}

impl Answer {
    pub(super) const fn new(
        outbound: Arc<Outbound>,
        ticket: u64,
        deadline: Instant,
        receive: oneshot::Receiver<Outcomes>,
    ) -> Self {
        Self {
            outbound,
            ticket,
            deadline,
            receive,
            here: false,
        }
    }

    /// Waits for it, up to the deadline.
    ///
    /// # Errors
    /// If it does not come in time, or the peer's life is over.
    pub async fn wait(mut self) -> Result<Reply, RequestError> {
        match self.ready().await? {
            Answered::Reply(reply) => Ok(reply),
            // The link refuses one that was not asked for.
            Answered::Stream(_) => Err(RequestError::Gone {
                may_have_started: true,
            }),
        }
    }

    /// Waits for it up to `time`, which is before the deadline: `None` if it has not come by then.
    /// Cancelling the wait loses nothing; not to be called again once it has come.
    async fn by(&mut self, time: Instant) -> Option<Result<Answered, RequestError>> {
        let come = timeout_at(time, &mut self.receive).await.ok()?;
        self.here = true;
        let gone = RequestError::Gone {
            may_have_started: true,
        };
        Some(come.unwrap_or(Err(gone)))
    }

    /// Waits for it, up to the deadline, without giving it up: cancelling the wait loses nothing. Not
    /// to be called again once it has come.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub async fn ready(&mut self) -> Result<Answered, RequestError> {
        let come = self.by(self.deadline).await;
        come.unwrap_or(Err(RequestError::Deadline))
    }

    /// Says to the peer that nobody wants what was asked for: it need not start, and need not go on.
    /// It is answered all the same, as [`Outcome::Expired`] if it did not start.
    pub fn cancel(&self) {
        self.outbound.cancel(self.ticket);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.here {
            self.outbound.give_up(self.ticket);
        }
    }
}

/// The answer to come to a request that may be answered with a stream. Dropped, so is the stream.
#[derive(Debug)]
pub struct StreamAnswer(Answer);

impl StreamAnswer {
    pub(super) const fn new(answer: Answer) -> Self {
        Self(answer)
    }

    /// Waits for it, up to the deadline, which means nothing to an open stream.
    ///
    /// # Errors
    /// If it does not come in time, or the peer's life is over.
    pub async fn wait(mut self) -> Result<Answered, RequestError> {
        self.0.ready().await
    }

    /// The same without giving it up: cancelling the wait loses nothing. To be called until it is
    /// ready, not again.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub async fn ready(&mut self) -> Result<Answered, RequestError> {
        self.0.ready().await
    }

    /// Says to the peer that nobody wants what was asked for, as [`Answer::cancel`].
    pub fn cancel(&self) {
        self.0.cancel();
    }
}
