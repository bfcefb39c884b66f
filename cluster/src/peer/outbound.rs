//! The sending side of the links to one peer of one class: requests keep their order and their
//! tickets across links (R12), wait for credit, and are answered once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncRead;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::credit::Credited;
use super::frame::{Envelope, FrameReader, Outcome};
use super::handshake::{self, HANDSHAKE_TIMEOUT, Shaken};
use super::hello::{Class, Hello, LinkError};
use super::links::{Limits, LinkEvent, LinkState, Remote, SILENCE, Shared};
use super::queue::Queue;
use super::stream::{OpenStream, StreamError};
use super::streams::{EndWith, Streams};
use super::view::{Direction, PeerView};
use crate::NodeId;

mod answer;
mod state;

pub use answer::{Answer, Answered, Reply, StreamAnswer};
use state::{State, Waiting};

const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
const DATA_IDLE: Duration = Duration::from_secs(300);
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
        }
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
        if self.streams.load(Ordering::Relaxed) >= self.limits.streams {
            return Err(RequestError::Overloaded);
        }
        self.offer(kind, true, payload, deadline)
            .map(StreamAnswer::new)
    }

    /// Sends a request, or lets it wait for credit or a link.
    pub(crate) fn request(
        self: &Arc<Self>,
        kind: u8,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<Answer, RequestError> {
        self.offer(kind, false, payload, deadline)
    }

    fn offer(
        self: &Arc<Self>,
        kind: u8,
        stream: bool,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<Answer, RequestError> {
        self.fits(&payload)?;
        let mut state = self.lock();
        if state.gone {
            return Err(RequestError::Gone {
                may_have_started: false,
            });
        }
        state.used = Instant::now();
        state.next += 1;
        let ticket = state.next;
        let credited = state.credit.offer(ticket, payload.len());
        if credited == Credited::Shed {
            return Err(RequestError::Overloaded);
        }
        let (answer, receive) = oneshot::channel();
        state.waiting.insert(
            ticket,
            Waiting {
                kind,
                stream,
                payload,
                deadline,
                answer,
                sent: false,
                credit: credited == Credited::Send,
            },
        );
        if credited == Credited::Send {
            state.send(ticket);
        }
        drop(state);
        self.work.notify_one();
        Ok(Answer::new(Arc::clone(self), ticket, deadline, receive))
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
        for (_, waiting) in std::mem::take(&mut state.waiting) {
            let _ = waiting.answer.send(Err(RequestError::Gone {
                may_have_started: waiting.sent,
            }));
        }
        self.wake_drained(&state);
        drop(state);
        self.work.notify_one();
    }

    /// Nobody waits for this answer any more.
    fn give_up(&self, ticket: u64) {
        let mut state = self.lock();
        let Some(waiting) = state.waiting.get(&ticket) else {
            return;
        };
        let (bytes, credit) = (waiting.payload.len(), waiting.credit);
        if state.credit.cancel(ticket) {
            state.waiting.remove(&ticket);
        } else if let Some(place) = state.ready.iter().position(|ready| *ready == ticket) {
            state.ready.remove(place);
            state.waiting.remove(&ticket);
            if credit {
                state.credit_back(bytes);
            }
        }
        self.wake_drained(&state);
        // One that was sent is answered some time; until then it holds its credit.
    }

    fn sign_of_life(&self) -> Envelope {
        let mut state = self.lock();
        match std::mem::take(&mut state.confirm) {
            ids if ids.is_empty() => Envelope::Ping,
            ids => Envelope::Confirm { ids },
        }
    }

    fn has_work(&self) -> bool {
        let state = self.lock();
        self.class == Class::Control
            || state.gone
            || !state.waiting.is_empty()
            || !state.casts.is_empty()
    }

    /// Keeps a link open while there is use for it. Ends with the peer.
    pub(crate) async fn run(self: Arc<Self>, shared: Arc<Shared>) {
        let mut backoff = BACKOFF.0;
        loop {
            while !self.has_work() {
                self.work.notified().await;
            }
            if self.lock().gone {
                return;
            }
            self.lock().stands(LinkState::Dialling);
            let (was_up, ended) = self.link(&shared).await;
            self.lost(&ended);
            if let (Err(why), Some(peer)) = (ended, self.peer) {
                let class = self.class;
                if matches!(why, LinkError::Silent(_)) {
                    shared.handler.event(LinkEvent::Silent { peer, class });
                }
                shared.handler.event(LinkEvent::Down {
                    peer,
                    class,
                    why: why.to_string(),
                });
                if was_up {
                    backoff = BACKOFF.0;
                }
                if !(was_up && matches!(why, LinkError::Silent(_))) {
                    let pause = backoff.mul_f64(0.5 + fastrand::f64() / 2.0);
                    backoff = tokio::select! {
                        () = sleep(pause) => (backoff * 2).min(BACKOFF.1),
                        () = self.hurry.notified() => BACKOFF.0,
                    };
                }
            } else {
                backoff = BACKOFF.0;
            }
        }
    }

    fn lost(&self, ended: &Result<(), LinkError>) {
        let mut state = self.lock();
        state.queue = None;
        state.streams = None;
        state.confirm.clear();
        state.stands(match ended {
            Ok(()) => LinkState::Idle,
            Err(LinkError::Silent(_)) => LinkState::Silent,
            Err(_) => LinkState::Down,
        });
        state.failed |= ended.is_err();
        if let Err(why) = ended {
            state.reason = Some(why.to_string());
        }
    }

    /// One link, from dialling to its end: whether it was up, and why it ended.
    pub(crate) async fn link(&self, shared: &Shared) -> (bool, Result<(), LinkError>) {
        let (number, addrs) = {
            let mut state = self.lock();
            (state.outbox.connect(), state.addrs.clone())
        };
        let mut failed = LinkError::Io(std::io::Error::other("no address is known"));
        for addr in &addrs {
            match self.dial(shared, addr, number).await {
                Ok(shaken) => return self.open(shared, shaken, number).await,
                Err(error) => failed = error,
            }
        }
        (false, Err(failed))
    }

    async fn dial(&self, shared: &Shared, addr: &str, number: u64) -> Result<Shaken, LinkError> {
        let connection = timeout(HANDSHAKE_TIMEOUT, shared.transport.dial(addr))
            .await
            .map_err(|_| LinkError::Slow(HANDSHAKE_TIMEOUT.as_millis()))??;
        let identity = shared.identity();
        let security = &shared.security;
        let shaken = handshake::dial(
            connection, &identity, security, self.class, number, self.peer,
        )
        .await?;
        if self.class != Class::Ask {
            shared.admit(&shaken.hello)?;
        }
        Ok(shaken)
    }

    async fn open(
        &self,
        shared: &Shared,
        shaken: Shaken,
        number: u64,
    ) -> (bool, Result<(), LinkError>) {
        let (read, mut write) = tokio::io::split(shaken.stream);
        let mut reader = FrameReader::new(read, shared.frame_limit());
        let welcome = timeout(HANDSHAKE_TIMEOUT, reader.next()).await;
        let batch = match welcome {
            Ok(Ok(batch)) => batch,
            Ok(Err(error)) => return (false, Err(error)),
            Err(_) => return (false, Err(LinkError::Slow(HANDSHAKE_TIMEOUT.as_millis()))),
        };
        let mut batch = batch.into_iter();
        let started = match batch.next() {
            Some(Envelope::Welcome { started, .. }) => started,
            Some(Envelope::Refused { why }) => return (false, Err(LinkError::Refused(why))),
            _ => return (false, Err(LinkError::Broken("it does not say welcome"))),
        };
        let (queue, streams) = self.opened(&shaken.hello, number, &started);
        let _end = EndWith(Arc::clone(&streams));
        if let Some(peer) = self.peer {
            shared.handler.event(LinkEvent::Up {
                peer,
                class: self.class,
                remote: Box::new(Remote::of(&shaken.hello, shaken.protocol)),
            });
        }
        let serve = async {
            for envelope in batch {
                self.take(&streams, envelope)?;
            }
            tokio::select! {
                ended = queue.write_to(&mut write, || self.sign_of_life()) => ended,
                ended = self.read(&mut reader, &queue, &streams) => ended,
            }
        };
        let ended = serve.await;
        if let Err(why) = &ended {
            streams.lost(&why.to_string());
        }
        (true, ended)
    }

    /// The link is open: what did not start goes again, in order, before anything new.
    fn opened(&self, hello: &Hello, number: u64, started: &[u64]) -> (Arc<Queue>, Arc<Streams>) {
        let queue = Arc::new(Queue::default());
        let count = Arc::clone(&self.streams);
        let streams = Streams::new(Arc::clone(&queue), count, self.limits.payload);
        let mut state = self.lock();
        if state
            .far
            .replace(hello.boot)
            .is_some_and(|far| far != hello.boot)
        {
            state.abandon();
        }
        let again = state.outbox.named(number, started);
        let ready = std::mem::take(&mut state.ready);
        state.queue = Some(Arc::clone(&queue));
        state.streams = Some(Arc::clone(&streams));
        state.stands(LinkState::Up);
        state.used = Instant::now();
        state.heard = Some(state.used);
        if std::mem::take(&mut state.failed) {
            state.reconnects += 1;
        }
        for cast in std::mem::take(&mut state.casts) {
            queue.push(cast);
        }
        for ticket in again.into_iter().chain(ready) {
            state.send(ticket);
        }
        if state.gone {
            streams.end(&StreamError::Gone);
            queue.close();
        }
        self.wake_drained(&state);
        (queue, streams)
    }

    async fn read<R: AsyncRead + Unpin>(
        &self,
        reader: &mut FrameReader<R>,
        queue: &Queue,
        streams: &Arc<Streams>,
    ) -> Result<(), LinkError> {
        loop {
            let before = reader.heard();
            match timeout(SILENCE, reader.next()).await {
                Ok(batch) => {
                    let batch = batch?;
                    self.lock().heard = Some(Instant::now());
                    for envelope in batch {
                        self.take(streams, envelope)?;
                    }
                }
                Err(_) if reader.heard() == before => {
                    return Err(LinkError::Silent(SILENCE.as_millis()));
                }
                Err(_) => {}
            }
            let mut state = self.lock();
            if !streams.is_empty() {
                state.used = Instant::now();
            }
            let idle = state.waiting.is_empty() && state.used.elapsed() >= DATA_IDLE;
            if state.gone || (idle && self.class == Class::Data) {
                queue.push(Envelope::Bye);
                queue.close();
            }
        }
    }

    fn take(&self, streams: &Arc<Streams>, envelope: Envelope) -> Result<(), LinkError> {
        let Some(envelope) = streams.take(envelope)? else {
            return Ok(());
        };
        let mut state = self.lock();
        match envelope {
            Envelope::Reply {
                id,
                outcome,
                load,
                payload,
            } => {
                let outcome =
                    Outcome::of(outcome).ok_or(LinkError::Broken("an outcome that is none"))?;
                state.answered(
                    id,
                    Reply {
                        outcome,
                        load,
                        payload,
                    },
                );
            }
            Envelope::Accepted { id } => {
                if let Some(ticket) = state.outbox.ticket(id)
                    && let Some(waiting) = state.waiting.get_mut(&ticket)
                    && std::mem::replace(&mut waiting.credit, false)
                {
                    let bytes = waiting.payload.len();
                    state.credit_back(bytes);
                }
            }
            Envelope::StreamOpened { id, load, payload } => {
                let ticket = state.outbox.answered(id);
                let waiting = ticket.and_then(|ticket| state.waiting.remove(&ticket));
                match waiting {
                    Some(waiting) if waiting.stream => {
                        state.confirm(id);
                        let (tx, rx) = streams.open(id);
                        let stream = OpenStream {
                            first: payload,
                            load,
                            tx,
                            rx,
                        };
                        state.settle(waiting, Answered::Stream(stream));
                    }
                    // This life of the peer was given up meanwhile.
                    None if ticket.is_some() => {}
                    _ => return Err(LinkError::Broken("a stream that nobody asked for")),
                }
            }
            Envelope::Ping => {}
            _ => return Err(LinkError::Broken("a listener sends answers and streams")),
        }
        self.wake_drained(&state);
        Ok(())
    }
}
