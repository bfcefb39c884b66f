//! The streams of one link, the same at both of its ends. They end with it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::frame::Envelope;
use super::hello::LinkError;
use super::pipe::{Counted, Pipe};
use super::queue::Queue;
use super::stream::{StreamError, StreamRx, StreamTx, ends};
use super::window::Amount;

/// A link on which so much waits to be written takes no new streams.
const BACKLOG: (usize, usize) = (16 * 1024, 64 * 1024 * 1024);

#[derive(Debug, Default)]
struct Open {
    pipes: BTreeMap<u64, Arc<Pipe>>,
    /// The highest id so far.
    last: u64,
    ended: Option<StreamError>,
}

/// The streams of one link.
#[derive(Debug)]
pub(crate) struct Streams {
    queue: Arc<Queue>,
    count: Arc<AtomicUsize>,
    payload_limit: usize,
    open: Mutex<Open>,
}

impl Streams {
    /// None yet. `count` counts those of this link and what is still held of older ones.
    pub(crate) fn new(
        queue: Arc<Queue>,
        count: Arc<AtomicUsize>,
        payload_limit: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            queue,
            count,
            payload_limit,
            open: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, envelope: Envelope) {
        self.queue.push(envelope);
    }

    pub(super) fn forget(&self, id: u64) {
        self.lock().pipes.remove(&id);
    }

    /// Whether none is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().pipes.is_empty()
    }

    /// Whether one more may be accepted.
    pub(crate) fn has_room(&self, limit: usize) -> bool {
        let (envelopes, bytes) = self.queue.waiting();
        self.count.load(Ordering::Relaxed) < limit && envelopes < BACKLOG.0 && bytes < BACKLOG.1
    }

    /// The ends of a new stream. On a link that has ended, they have too.
    pub(crate) fn open(self: &Arc<Self>, id: u64) -> (StreamTx, StreamRx) {
        let counted = Counted::new(&self.count);
        let pipe = Arc::new(Pipe::new(id, Arc::downgrade(self), counted));
        let mut open = self.lock();
        let ended = open.ended.clone();
        if ended.is_none() {
            open.last = open.last.max(id);
            open.pipes.insert(id, Arc::clone(&pipe));
        }
        drop(open);
        if let Some(why) = ended {
            pipe.lost(&why);
        }
        ends(&pipe, self.payload_limit)
    }

    /// What the peer says of a stream; anything else comes back.
    pub(crate) fn take(&self, envelope: Envelope) -> Result<Option<Envelope>, LinkError> {
        let (id, says) = match envelope {
            Envelope::StreamData { id, payload } => (id, Says::Message(payload)),
            Envelope::StreamEnd { id, payload } => (id, Says::End(Some(payload))),
            Envelope::StreamDropped { id } => (id, Says::End(None)),
            Envelope::StreamCredit {
                id,
                messages,
                bytes,
            } => (id, Says::Credit(Amount { messages, bytes })),
            Envelope::StreamCancelled { id } => (id, Says::Cancelled),
            other => return Ok(Some(other)),
        };
        let open = self.lock();
        if open.ended.is_some() {
            return Ok(None);
        }
        let (pipe, last) = (open.pipes.get(&id).cloned(), open.last);
        drop(open);
        match (pipe, says) {
            (Some(pipe), Says::Message(payload)) => pipe.message(payload)?,
            (Some(pipe), Says::End(last)) => pipe.ended(last)?,
            (Some(pipe), Says::Credit(read)) => pipe.credited(read)?,
            (Some(pipe), Says::Cancelled) => pipe.cancelled(),
            // What a reader says may cross the end that the writer says.
            (None, Says::Credit(_) | Says::Cancelled) if id <= last => {}
            (None, _) => {
                return Err(LinkError::Broken("it speaks of a stream that is not open"));
            }
        }
        Ok(None)
    }

    /// The link is over, and so are its streams. The first reason holds.
    pub(crate) fn end(&self, why: &StreamError) {
        let mut open = self.lock();
        if open.ended.is_some() {
            return;
        }
        open.ended = Some(why.clone());
        let pipes = std::mem::take(&mut open.pipes);
        drop(open);
        for pipe in pipes.values() {
            pipe.lost(why);
        }
    }

    /// For an end in words.
    pub(crate) fn lost(&self, why: &str) {
        self.end(&StreamError::Lost(why.into()));
    }

    /// Of each stream how many messages wait to be read here, and their bytes.
    pub(crate) fn unread(&self) -> Vec<(usize, usize)> {
        self.lock()
            .pipes
            .values()
            .map(|pipe| pipe.unread())
            .collect()
    }
}

enum Says {
    Message(bytes::Bytes),
    End(Option<bytes::Bytes>),
    Credit(Amount),
    Cancelled,
}

/// Ends the streams of a link with the task that serves it, whatever ends that.
#[derive(Debug)]
pub(crate) struct EndWith(pub(crate) Arc<Streams>);

impl Drop for EndWith {
    fn drop(&mut self) {
        self.0.lost("its link was closed here");
    }
}
