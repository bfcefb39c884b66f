//! The receiving side of one peer's links of one class: what has come, what runs, what is answered.
//! It outlives the single link (R12).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncRead;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::credit::CreditLimits;
use super::frame::{Envelope, FrameReader, Outcome};
use super::hello::LinkError;
use super::links::{Handler, Remote, SILENCE};
use super::order::{Arrived, Inbox};
use super::queue::Queue;

/// A link without a byte for so long is closed by its listener.
pub(crate) const LISTENER_SILENCE: Duration = Duration::from_secs(5);
/// So many answers may wait to be confirmed, as a multiple of the credit.
const KEPT: usize = 4;

/// Where an incoming link writes, and what ends it.
#[derive(Debug, Default)]
pub(crate) struct Way {
    pub(crate) queue: Queue,
    pub(crate) stop: Notify,
}

#[derive(Debug)]
struct State {
    inbox: Inbox,
    way: Option<Arc<Way>>,
    link: u64,
    heard: Instant,
    /// What takes credit, by id, with its bytes.
    taken: BTreeMap<u64, usize>,
    /// The sum of those bytes.
    held: usize,
    answers: BTreeMap<u64, Envelope>,
    dead: bool,
}

impl State {
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
    limits: CreditLimits,
    payload_limit: usize,
    handler: Arc<dyn Handler>,
    state: Mutex<State>,
}

impl std::fmt::Debug for Inbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Inbound").field(&self.remote).finish()
    }
}

impl Inbound {
    pub(crate) fn new(
        remote: Remote,
        limits: CreditLimits,
        payload_limit: usize,
        handler: Arc<dyn Handler>,
    ) -> Self {
        Self {
            remote,
            limits,
            payload_limit,
            handler,
            state: Mutex::new(State {
                inbox: Inbox::new(),
                way: None,
                link: 0,
                heard: Instant::now(),
                taken: BTreeMap::new(),
                held: 0,
                answers: BTreeMap::new(),
                dead: false,
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

    /// Its life is over: nothing of it starts any more, and its link closes.
    pub(crate) fn kill(&self) {
        let mut state = self.lock();
        state.dead = true;
        if let Some(way) = state.way.take() {
            way.stop.notify_one();
        }
    }

    /// A link opens: the old one ends, what it left unstarted is dropped, what was answered is
    /// answered again.
    pub(crate) fn open(&self, link: u64, protocol: u16) -> Result<Arc<Way>, LinkError> {
        let mut state = self.lock();
        let opened = state.inbox.open(link)?;
        for id in &opened.dropped {
            state.release(*id);
        }
        let way = Arc::new(Way::default());
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
        if let Some(old) = state.way.replace(Arc::clone(&way)) {
            old.stop.notify_one();
        }
        (state.link, state.heard) = (link, Instant::now());
        Ok(way)
    }

    /// A link is over.
    pub(crate) fn closed(&self, link: u64) {
        let mut state = self.lock();
        if state.link == link {
            state.way = None;
        }
    }

    /// Reads a link until it ends.
    pub(crate) async fn read<R: AsyncRead + Unpin>(
        self: &Arc<Self>,
        reader: &mut FrameReader<R>,
        link: u64,
    ) -> Result<(), LinkError> {
        loop {
            let before = reader.heard();
            let read = timeout(LISTENER_SILENCE, reader.next()).await;
            let Ok(read) = read else {
                if reader.heard() == before {
                    return Err(LinkError::Silent(LISTENER_SILENCE.as_millis()));
                }
                continue;
            };
            let batch = read?;
            self.lock().heard = Instant::now();
            for envelope in batch {
                if matches!(envelope, Envelope::Bye) {
                    return Ok(());
                }
                self.take(link, envelope)?;
            }
        }
    }

    fn take(self: &Arc<Self>, link: u64, envelope: Envelope) -> Result<(), LinkError> {
        match envelope {
            Envelope::Request {
                id,
                deadline_ms,
                kind,
                payload,
            } => self.request(link, id, deadline_ms, kind, payload),
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
            Envelope::Ping => Ok(()),
            _ => Err(LinkError::Broken(
                "a dialler sends requests, casts and confirmations",
            )),
        }
    }

    fn request(
        self: &Arc<Self>,
        link: u64,
        id: u64,
        deadline_ms: u32,
        kind: u8,
        payload: Bytes,
    ) -> Result<(), LinkError> {
        let mut state = self.lock();
        let full = state.taken.len() >= self.limits.envelopes
            || (!state.taken.is_empty() && state.held + payload.len() > self.limits.bytes);
        if full || state.answers.len() > KEPT * self.limits.envelopes {
            return Err(LinkError::Broken("it sends more than it has credit for"));
        }
        match state.inbox.arrived(link, id) {
            Arrived::Accept => {}
            Arrived::Drop => return Ok(()),
            Arrived::CloseLink => return Err(LinkError::Broken("an id does not rise")),
        }
        state.taken.insert(id, payload.len());
        state.held += payload.len();
        drop(state);
        let request = Request {
            inbound: Arc::clone(self),
            id,
            kind,
            payload,
            deadline: Instant::now() + Duration::from_millis(u64::from(deadline_ms)),
            started: false,
            done: false,
        };
        if deadline_ms == 0 {
            request.expire();
        } else {
            self.handler.request(&self.remote, request);
        }
        Ok(())
    }

    fn answer(&self, id: u64, outcome: Outcome, payload: Bytes, started: bool) {
        let (outcome, payload) = if payload.len() > self.payload_limit {
            (Outcome::Dropped, Bytes::from_static(b"answer too large"))
        } else {
            (outcome, payload)
        };
        let load = self.handler.load();
        let mut state = self.lock();
        let known = if started {
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
        if let Some(way) = &state.way {
            way.queue.push(reply.clone());
        }
        if started {
            state.answers.insert(id, reply);
        }
    }
}

/// A peer's request. Whoever drops it unanswered answers it: as not started, or, once it has started,
/// as dropped.
#[derive(Debug)]
pub struct Request {
    inbound: Arc<Inbound>,
    id: u64,
    kind: u8,
    payload: Bytes,
    deadline: Instant,
    started: bool,
    done: bool,
}

impl Request {
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
    /// its sender sends it again (R12).
    pub fn start(&mut self) -> bool {
        if !self.started {
            let mut state = self.inbound.lock();
            self.started = !state.dead && state.inbox.start(self.id);
            drop(state);
            self.done = !self.started;
        }
        self.started
    }

    /// It has started and will go on for long, like a stream: its credit goes back now.
    pub fn accept(&mut self) {
        if self.start() {
            let mut state = self.inbound.lock();
            if state.release(self.id)
                && let Some(way) = &state.way
            {
                way.queue.push(Envelope::Accepted { id: self.id });
            }
        }
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

    fn expire(mut self) {
        self.finish(Outcome::Expired, Bytes::new());
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
