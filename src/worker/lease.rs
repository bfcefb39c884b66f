//! A worker lent to one event: the exchange, and what becomes of the line afterwards.
//!
//! The request is followed by a question for the worker's pid, the fence. A worker answers in order,
//! so what comes first tells whether it has answered the request or passed over it, and a second
//! answer shows before anybody else could take it for theirs. Whoever waits may go away at any time:
//! the exchange is then finished by a task of its own, and its answer dropped.

use super::actor::WorkerMessage;
use super::info::{WorkerInfo, WorkerState};
use super::link::{Link, LinkError};
use super::queue::{Queue, Ticket};
use crate::goridge::{Flags, Frame, Stream, ViewError};
use bytes::Bytes;
use rustix::io::Errno;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::timeout;

/// The answer that asks for another worker.
const REPLACE_ME: &[u8] = b"{\"stop\":true}";

/// What a worker made of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The body of its answer.
    Body(Bytes),
    /// It failed in words of its own; it goes on.
    Soft(String),
    /// It read the request and answered nothing; it goes on.
    Nothing,
    /// It wants to be replaced; the request is to be given to another.
    ReplaceMe,
    /// It began to stream, which no event takes; it goes on.
    Stream,
}

/// Why an exchange has no answer; the worker is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    /// The worker was gone before it could have read a byte: another may be asked.
    #[error("Network: the worker was gone")]
    Unread,
    /// It said something while it was idle: another may be asked.
    #[error("Network: {0} bytes from an idle worker; a worker must speak only when asked")]
    Unasked(usize),
    /// The line failed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// What came is no answer.
    #[error("Decode: {0}")]
    Decode(ViewError),
    /// The answer is shorter than it says.
    #[error("Network: bad payload: {0}")]
    Payload(ViewError),
    /// A second answer to one request.
    #[error("two answers to one request; a handler must answer once")]
    Second,
    /// The runtime has ended in the middle of an exchange.
    #[error("nobody is left to read the answer")]
    Abandoned,
    /// A stream that did not end.
    #[error("a streamed answer did not end within `stream_timeout`")]
    Endless,
}

impl ExchangeError {
    /// Whether the request can be given to another worker: this one has read none of it.
    pub(super) const fn is_unread(&self) -> bool {
        matches!(self, Self::Unread | Self::Unasked(_))
    }
}

/// How far an exchange is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing is under way.
    Idle,
    /// The request is being written.
    Request,
    /// The answer is due.
    Answer,
    /// The rest of a stream is due.
    Drain,
    /// The answer to the fence is due.
    Fence,
}

/// A worker lent to one event. When dropped it goes back, after the rest of its exchange.
#[derive(Debug)]
pub(crate) struct Lease {
    link: Option<Link>,
    queue: Arc<Queue>,
    phase: Phase,
    /// Whether the fence is still to be written, apart from the request.
    fence_due: bool,
    ticket: Option<Ticket>,
    /// Whether the answer was a stream: what its worker reads next may be taken for a part of it.
    streamed: bool,
    /// Whether the task that finishes the exchange has it.
    finishing: bool,
}

impl Lease {
    /// A worker that is idle.
    pub(super) const fn new(link: Link, queue: Arc<Queue>) -> Self {
        Self {
            link: Some(link),
            queue,
            phase: Phase::Idle,
            fence_due: false,
            ticket: None,
            streamed: false,
            finishing: false,
        }
    }

    /// Takes over the place among the pool's requests: it is held until the worker is free again.
    pub(super) fn hold(&mut self, ticket: Ticket) {
        self.ticket = Some(ticket);
    }

    /// Gives the place back, for another worker.
    pub(super) const fn release(&mut self) -> Option<Ticket> {
        self.ticket.take()
    }

    /// The worker.
    pub(super) fn worker(&self) -> Option<Arc<WorkerInfo>> {
        self.link.as_ref().map(|link| Arc::clone(&link.worker))
    }

    /// The line, of a lease that nothing was done with.
    pub(super) fn into_link(mut self) -> Option<Link> {
        self.link.take()
    }

    /// Ends the worker of a lease that nothing was done with.
    pub(super) fn dismiss(self) {
        if let Some(link) = self.into_link() {
            Queue::retire(link);
        }
    }

    fn link(&mut self) -> Result<&mut Link, ExchangeError> {
        self.link.as_mut().ok_or(ExchangeError::Unread)
    }

    /// Gives a request to the worker and waits for what it makes of it.
    ///
    /// # Errors
    /// The worker is lost, see [`Lease::lost`].
    pub(super) async fn call(
        &mut self,
        context: &[u8],
        body: &[u8],
    ) -> Result<Answer, ExchangeError> {
        let fence = self.queue.fence().cloned();
        let link = self.link()?;
        if let Some(bytes) = link.said_unasked() {
            return Err(match bytes {
                0 => ExchangeError::Unread,
                bytes => ExchangeError::Unasked(bytes),
            });
        }
        link.worker.begin();
        let output = link.output();
        output.clear();
        Frame::put_work(output, Flags::PROTO, context, body)
            .map_err(|why| LinkError::Io(io::Error::other(why)))?;
        let together = fence
            .as_ref()
            .filter(|it| Link::is_atomic(output.len() + it.len()));
        if let Some(fence) = together {
            output.extend_from_slice(fence);
        }
        let whole = output.len();
        self.fence_due = fence.is_some() && together.is_none();
        self.phase = Phase::Request;
        let answer = self.proceed().await;
        if let Err(ExchangeError::Link(LinkError::Io(why))) = &answer
            && why.raw_os_error() == Some(Errno::PIPE.raw_os_error())
            && self.phase == Phase::Request
            && self.link()?.output().len() == whole
        {
            return Err(ExchangeError::Unread);
        }
        answer
    }

    /// Goes on until the worker has answered.
    async fn proceed(&mut self) -> Result<Answer, ExchangeError> {
        if self.phase == Phase::Request {
            self.link()?.flush().await?;
            self.phase = Phase::Answer;
        }
        if self.fence_due {
            // It is small, and written once the request has been: the worker takes it whole. One
            // that answers and leaves has not read it; its answer is good all the same.
            let fence = self.queue.fence().cloned().unwrap_or_default();
            let link = self.link()?;
            if link.output().is_empty() {
                link.output().extend_from_slice(&fence);
            }
            drop(link.flush().await);
            link.output().clear();
            self.fence_due = false;
        }
        let done = match self.queue.fence() {
            Some(_) => Phase::Fence,
            None => Phase::Idle,
        };
        if self.phase == Phase::Answer {
            let frame = self.link()?.frame().await?;
            if frame.flags.has(Flags::ERROR) {
                self.phase = done;
                let text = String::from_utf8_lossy(&frame.payload).into_owned();
                return Ok(Answer::Soft(text));
            }
            if done == Phase::Fence && frame.flags.has(Flags::CONTROL) {
                self.phase = Phase::Idle;
                return Ok(Answer::Nothing);
            }
            let work = frame.as_work().map_err(|why| match why {
                ViewError::Beyond { .. } => ExchangeError::Payload(why),
                other => ExchangeError::Decode(other),
            })?;
            if !frame.stream.has(Stream::MORE) {
                self.phase = done;
                let replace = work.body.is_empty() && work.context == REPLACE_ME;
                return Ok(match replace {
                    true => Answer::ReplaceMe,
                    false => Answer::Body(work.body),
                });
            }
            self.phase = Phase::Drain;
            self.streamed = true;
        }
        let limit = self.queue.stream_timeout();
        let drained = timeout(limit, self.drain()).await;
        drained.map_err(|_| ExchangeError::Endless)??;
        self.phase = done;
        Ok(Answer::Stream)
    }

    /// Ends a stream: what has been sent of it is read and dropped. Every stop also answers a ping.
    async fn drain(&mut self) -> Result<(), ExchangeError> {
        let link = self.link()?;
        let mut ask = true;
        loop {
            if std::mem::take(&mut ask) {
                Frame::stream_stop()
                    .encode(link.output())
                    .map_err(|why| LinkError::Io(io::Error::other(why)))?;
                link.flush().await?;
            }
            let frame = link.frame().await?;
            if !frame.stream.has(Stream::MORE) {
                return Ok(());
            }
            ask = frame.stream.has(Stream::PING);
        }
    }

    /// Reads the answer to the fence.
    async fn pass_fence(&mut self) -> Result<(), ExchangeError> {
        let frame = self.link()?.frame().await?;
        if !frame.flags.has(Flags::CONTROL) {
            return Err(ExchangeError::Second);
        }
        self.phase = Phase::Idle;
        Ok(())
    }

    /// Reads the answer to the fence, if it has come; does not wait.
    fn pass_fence_now(&mut self) {
        if self.phase != Phase::Fence {
            return;
        }
        let Some(link) = &mut self.link else { return };
        match link.frame_now() {
            Ok(None) => {}
            Ok(Some(frame)) if frame.flags.has(Flags::CONTROL) => self.phase = Phase::Idle,
            Ok(Some(_)) => self.lost(&ExchangeError::Second),
            Err(error) => self.lost(&error.into()),
        }
    }

    /// What is left of an exchange that nobody waits for.
    async fn finish(mut self) {
        let late = self.phase != Phase::Fence;
        let rest = async {
            if late {
                if self.proceed().await? == Answer::ReplaceMe {
                    self.link()?.worker.go(WorkerState::Invalid);
                }
                self.queue.counts.late.add_one();
            }
            if self.phase == Phase::Fence {
                let limit = match self.streamed {
                    true => self.queue.stream_timeout(),
                    false => Duration::MAX,
                };
                let passed = timeout(limit, self.pass_fence()).await;
                passed.map_err(|_| ExchangeError::Endless)??;
            }
            Ok::<_, ExchangeError>(())
        };
        if let Err(why) = rest.await {
            self.lost(&why);
        }
    }

    /// The worker is to be replaced once it is free, though nothing is wrong with it.
    pub(super) fn replace(&mut self) {
        if let Some(link) = &self.link {
            link.worker.go(WorkerState::Invalid);
        }
    }

    /// The worker is of no use any more: its process is ended, and another takes its place.
    pub(super) fn lost(&mut self, why: &ExchangeError) {
        let Some(link) = self.link.take() else {
            return;
        };
        let worker = Arc::clone(&link.worker);
        worker.rest();
        worker.go(WorkerState::Errored);
        let order = match why {
            // It is well, but out of step: it is asked to leave.
            ExchangeError::Decode(_) => WorkerMessage::Retire(Box::new(link), why.to_string()),
            ExchangeError::Link(LinkError::Closed | LinkError::Cut(_)) => {
                WorkerMessage::Leaves(why.to_string())
            }
            _ => WorkerMessage::Kill(why.to_string()),
        };
        // An actor that is gone has ended its process.
        drop(worker.actor.cast(order));
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pass_fence_now();
        let Some(link) = self.link.take() else {
            return;
        };
        if self.phase == Phase::Idle {
            self.ticket = None;
            return self.queue.give_back(link);
        }
        let mut rest = Self {
            link: Some(link),
            queue: Arc::clone(&self.queue),
            phase: self.phase,
            fence_due: self.fence_due,
            ticket: match self.phase {
                // The answer has been given.
                Phase::Fence => None,
                _ => self.ticket.take(),
            },
            streamed: self.streamed,
            finishing: true,
        };
        match Handle::try_current() {
            // A runtime that ends drops what it is given.
            Ok(runtime) if !self.finishing => drop(runtime.spawn(rest.finish())),
            _ => rest.lost(&ExchangeError::Abandoned),
        }
    }
}
