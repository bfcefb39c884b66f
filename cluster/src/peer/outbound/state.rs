//! What waits for a peer: tickets with and without credit, sent and unsent, and their answers.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::answer::Hears;
use super::{Answered, Reply, RequestError};
use crate::ids::IdMap;
use crate::peer::credit::{Credit, CreditLimits};
use crate::peer::frame::{Envelope, Outcome};
use crate::peer::links::LinkState;
use crate::peer::order::{Ends, Outbox};
use crate::peer::queue::Queue;
use crate::peer::streams::Streams;

/// So many answers are confirmed at once.
pub(crate) const CONFIRM_EVERY: usize = 64;

pub(super) type Outcomes = Result<Answered, RequestError>;
/// An answer, and who waits for it: told after the lock is given back.
pub(super) type Done = (Hears, Answered);

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) kind: u8,
    /// Whether it may be answered with a stream.
    pub(super) stream: bool,
    pub(super) payload: Bytes,
    pub(super) deadline: Instant,
    pub(super) answer: Hears,
    /// Whether it was sent on any link.
    pub(super) sent: bool,
    /// The number under which it was sent last.
    pub(super) id: u64,
    /// Nobody waits for the answer any more, and the peer has to hear of it.
    pub(super) cancelled: bool,
    /// Whether it holds credit.
    pub(super) credit: bool,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) addrs: Vec<String>,
    pub(super) outbox: Outbox,
    pub(super) credit: Credit,
    pub(super) next: u64,
    pub(super) waiting: IdMap<u64, Waiting>,
    pub(super) ready: VecDeque<u64>,
    pub(super) casts: VecDeque<Envelope>,
    pub(super) queue: Option<Arc<Queue>>,
    pub(super) streams: Option<Arc<Streams>>,
    /// Whether the peer understands that a request is cancelled.
    pub(super) cancels: bool,
    pub(super) confirm: Vec<u64>,
    /// Something was put into the queue, and who writes it was not woken yet.
    unwoken: bool,
    pub(super) used: Instant,
    pub(super) link: LinkState,
    pub(super) since: Instant,
    pub(super) heard: Option<Instant>,
    /// Whether the last link failed: the next is a reconnect.
    pub(super) failed: bool,
    pub(super) reconnects: u64,
    pub(super) reason: Option<String>,
    pub(super) gone: bool,
}

impl State {
    pub(super) fn new(addrs: Vec<String>, limits: CreditLimits) -> Self {
        Self {
            addrs,
            outbox: Outbox::new(),
            credit: Credit::new(limits),
            next: 0,
            waiting: IdMap::default(),
            ready: VecDeque::new(),
            casts: VecDeque::new(),
            queue: None,
            streams: None,
            cancels: false,
            confirm: Vec::new(),
            unwoken: false,
            used: Instant::now(),
            link: LinkState::Idle,
            since: Instant::now(),
            heard: None,
            failed: false,
            reconnects: 0,
            reason: None,
            gone: false,
        }
    }

    /// Where the link stands from now on.
    pub(super) fn stands(&mut self, link: LinkState) {
        if self.link != link {
            (self.link, self.since) = (link, Instant::now());
        }
    }

    /// A ticket that has credit goes out, or waits for a link.
    pub(super) fn send(&mut self, ticket: u64) {
        let Some(waiting) = self.waiting.get_mut(&ticket) else {
            return;
        };
        let Some(queue) = &self.queue else {
            self.ready.push_back(ticket);
            return;
        };
        let Some(id) = self.outbox.send(ticket) else {
            self.ready.push_back(ticket);
            return;
        };
        (waiting.sent, waiting.id) = (true, id);
        let left = waiting.deadline.saturating_duration_since(Instant::now());
        self.unwoken = true;
        queue.put(Envelope::Request {
            id,
            deadline_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX),
            kind: waiting.kind,
            stream: waiting.stream,
            payload: waiting.payload.clone(),
        });
    }

    /// Nobody waits for the answer to this any more: what was not sent is taken back, of what was
    /// the peer hears. Answers what was taken back.
    pub(super) fn cancel(&mut self, ticket: u64) -> Option<Waiting> {
        let waiting = self.waiting.get_mut(&ticket)?;
        let (bytes, credit) = (waiting.payload.len(), waiting.credit);
        if self.credit.cancel(ticket) {
            return self.waiting.remove(&ticket);
        }
        if let Some(place) = self.ready.iter().position(|ready| *ready == ticket) {
            self.ready.remove(place);
            let taken = self.waiting.remove(&ticket);
            if credit {
                self.credit_back(bytes);
            }
            return taken;
        }
        if !std::mem::replace(&mut waiting.cancelled, true) {
            let id = waiting.id;
            self.say_cancelled(id);
        }
        None
    }

    fn say_cancelled(&self, id: u64) {
        if let Some(queue) = self.queue.as_ref().filter(|_| self.cancels) {
            queue.push(Envelope::Cancelled { id });
        }
    }

    /// A link is open. Of what did not start on older ones, this is sent again: what was cancelled
    /// meanwhile is not, and leaves the credit of so many bytes each.
    pub(super) fn drop_cancelled(&mut self, unstarted: Vec<u64>) -> (Vec<u64>, Vec<usize>) {
        let cancelled = |waiting: &Waiting| waiting.cancelled;
        let (over, again): (Vec<u64>, Vec<u64>) = unstarted
            .into_iter()
            .partition(|ticket| self.waiting.get(ticket).is_some_and(cancelled));
        let mut freed = Vec::new();
        for waiting in over.iter().filter_map(|ticket| self.waiting.remove(ticket)) {
            freed.extend(waiting.credit.then_some(waiting.payload.len()));
            waiting.answer.hear(Err(RequestError::Deadline));
        }
        let started = self.waiting.values().filter(|it| it.cancelled && it.sent);
        for id in started.map(|it| it.id).collect::<Vec<_>>() {
            self.say_cancelled(id);
        }
        (again, freed)
    }

    pub(super) fn credit_back(&mut self, bytes: usize) {
        for ticket in self.credit.returned(bytes) {
            if let Some(waiting) = self.waiting.get_mut(&ticket) {
                waiting.credit = true;
            }
            self.send(ticket);
        }
    }

    /// The queue, if who writes it has to be woken: after the lock is given back, since that may
    /// take a call of the system.
    pub(super) fn take_unwoken(&mut self) -> Option<Arc<Queue>> {
        let unwoken = std::mem::take(&mut self.unwoken);
        self.queue.clone().filter(|_| unwoken)
    }

    pub(super) fn answered(&mut self, id: u64, reply: Reply, done: &mut Vec<Done>) {
        if matches!(reply.outcome, Outcome::Answered | Outcome::Dropped) {
            self.confirm(id);
        }
        if let Some(waiting) = self
            .outbox
            .answered(id)
            .and_then(|ticket| self.waiting.remove(&ticket))
        {
            self.settle(waiting, Answered::Reply(reply), done);
        }
    }

    /// The receiver has this answer from now on.
    pub(super) fn confirm(&mut self, id: u64) {
        self.confirm.push(id);
        if self.confirm.len() >= CONFIRM_EVERY
            && let Some(queue) = &self.queue
        {
            let ids = std::mem::take(&mut self.confirm);
            queue.put(Envelope::Confirm { ids });
            self.unwoken = true;
        }
    }

    /// A request is over; what it was answered goes into `done`.
    pub(super) fn settle(&mut self, waiting: Waiting, answered: Answered, done: &mut Vec<Done>) {
        let (bytes, credit) = (waiting.payload.len(), waiting.credit);
        done.push((waiting.answer, answered));
        if credit {
            self.credit_back(bytes);
        }
    }

    /// A link is open between these: what was sent between others is given up, as it may have started.
    pub(super) fn meet(&mut self, ends: Ends) {
        let settled = self.outbox.is_settled();
        debug_assert!(!settled, "a link is settled after it is opened");
        for ticket in self.outbox.meet(ends) {
            let Some(waiting) = self.waiting.remove(&ticket) else {
                continue;
            };
            let (bytes, credit) = (waiting.payload.len(), waiting.credit);
            waiting.answer.hear(Err(RequestError::Gone {
                may_have_started: true,
            }));
            if credit {
                self.credit_back(bytes);
            }
        }
    }
}
