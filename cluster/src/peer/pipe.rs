//! A stream as its link sees it: what has come and is not read, what has gone out and is not
//! credited, and how each direction has ended.
//!
//! The writer of a direction ends it on the wire, once: with an end, or as dropped. A reader that
//! reads no more says so, ignores what is still on its way, and the writer's link answers with that
//! end at once. So a stream is over on the wire when both ends were said, and a message after its
//! end, or of a stream that never was, is a defect of the peer and closes the link.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::frame::Envelope;
use super::hello::LinkError;
use super::stream::{FINAL_MAX, StreamError, StreamItem};
use super::streams::Streams;
use super::window::{Amount, Window};

/// Below this an unread message is copied: it would hold the whole block that it came in.
const COPIED: usize = 16 * 1024;

/// How many streams there are; each counts until nobody holds any of it.
#[derive(Debug)]
pub(super) struct Counted(Arc<AtomicUsize>);

impl Counted {
    pub(super) fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
enum InEnd {
    Finished(Bytes),
    Failed(StreamError),
}

#[derive(Debug, Default)]
struct State {
    /// What the peer has not read.
    window: Window,
    /// Why nothing is sent any more. Then the peer was told, or there is no link to tell it on.
    out: Option<StreamError>,
    tx_waker: Option<Waker>,
    /// What has come and was not credited: unread, and owed.
    held: Window,
    owed: Amount,
    unread: VecDeque<Bytes>,
    end: Option<InEnd>,
    /// Nobody reads here any more.
    cancelled: bool,
    rx_waker: Option<Waker>,
}

impl State {
    const fn is_over(&self) -> bool {
        self.out.is_some() && self.end.is_some()
    }

    /// What was read goes back to the writer, while it still writes.
    fn credit(&mut self, id: u64) -> Option<Envelope> {
        let read = std::mem::take(&mut self.owed);
        let known = self.held.give(read);
        debug_assert!(known, "what is owed was held");
        self.end.is_none().then_some(Envelope::StreamCredit {
            id,
            messages: read.messages,
            bytes: read.bytes,
        })
    }
}

/// One stream, at one end of a link.
#[derive(Debug)]
pub(super) struct Pipe {
    id: u64,
    streams: Weak<Streams>,
    state: Mutex<State>,
    _counted: Counted,
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Pipe {
    pub(super) fn new(id: u64, streams: Weak<Streams>, counted: Counted) -> Self {
        Self {
            id,
            streams,
            state: Mutex::default(),
            _counted: counted,
        }
    }

    pub(super) const fn id(&self) -> u64 {
        self.id
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// While the state is locked, so that messages keep their order.
    fn push(&self, envelope: Envelope) {
        if let Some(streams) = self.streams.upgrade() {
            streams.push(envelope);
        }
    }

    /// Both ends were said: the link forgets it.
    fn forget(&self) {
        if let Some(streams) = self.streams.upgrade() {
            streams.forget(self.id);
        }
    }

    // What the peer says.

    pub(super) fn message(&self, payload: Bytes) -> Result<(), LinkError> {
        let mut state = self.lock();
        if state.end.is_some() {
            return Err(LinkError::Broken("a message after the end of its stream"));
        }
        if !state.held.take(payload.len()) {
            return Err(LinkError::Broken("a stream goes beyond its window"));
        }
        if state.cancelled {
            return Ok(());
        }
        state.unread.push_back(if payload.len() < COPIED {
            Bytes::copy_from_slice(&payload)
        } else {
            payload
        });
        let waker = state.rx_waker.take();
        drop(state);
        wake(waker);
        Ok(())
    }

    pub(super) fn ended(&self, last: Option<Bytes>) -> Result<(), LinkError> {
        if last.as_ref().is_some_and(|last| last.len() > FINAL_MAX) {
            return Err(LinkError::Broken(
                "the last message of a stream is too large",
            ));
        }
        let mut state = self.lock();
        if state.end.is_some() {
            return Err(LinkError::Broken("a stream ends twice"));
        }
        state.end = Some(match last {
            Some(last) if !state.cancelled => InEnd::Finished(Bytes::copy_from_slice(&last)),
            _ => InEnd::Failed(StreamError::Dropped),
        });
        let (waker, over) = (state.rx_waker.take(), state.is_over());
        drop(state);
        wake(waker);
        if over {
            self.forget();
        }
        Ok(())
    }

    pub(super) fn credited(&self, read: Amount) -> Result<(), LinkError> {
        let mut state = self.lock();
        if !state.window.give(read) {
            return Err(LinkError::Broken("more of a stream was read than sent"));
        }
        let waker = state.tx_waker.take();
        drop(state);
        wake(waker);
        Ok(())
    }

    pub(super) fn cancelled(&self) {
        self.close(StreamError::Cancelled);
    }

    /// Its link is gone.
    pub(super) fn lost(&self, why: &StreamError) {
        let mut state = self.lock();
        state.out.get_or_insert_with(|| why.clone());
        state.end.get_or_insert_with(|| InEnd::Failed(why.clone()));
        let wakers = (state.tx_waker.take(), state.rx_waker.take());
        drop(state);
        wake(wakers.0);
        wake(wakers.1);
    }

    // What its user does.

    pub(super) fn poll_ready(
        &self,
        cx: &mut Context<'_>,
        bytes: usize,
    ) -> Poll<Result<(), StreamError>> {
        let mut state = self.lock();
        if let Some(why) = &state.out {
            return Poll::Ready(Err(why.clone()));
        }
        if state.window.fits(bytes) {
            return Poll::Ready(Ok(()));
        }
        state.tx_waker = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn send(&self, payload: Bytes) -> Result<bool, StreamError> {
        let mut state = self.lock();
        if let Some(why) = &state.out {
            return Err(why.clone());
        }
        let fits = state.window.take(payload.len());
        if fits {
            self.push(Envelope::StreamData {
                id: self.id,
                payload,
            });
        }
        Ok(fits)
    }

    pub(super) fn finish(&self, payload: Bytes) -> Result<(), StreamError> {
        let mut state = self.lock();
        if let Some(why) = &state.out {
            return Err(why.clone());
        }
        state.out = Some(StreamError::Over);
        self.push(Envelope::StreamEnd {
            id: self.id,
            payload,
        });
        let over = state.is_over();
        drop(state);
        if over {
            self.forget();
        }
        Ok(())
    }

    /// Nothing more is sent, for that reason, and the peer is told.
    fn close(&self, why: StreamError) {
        let mut state = self.lock();
        if state.out.is_some() {
            return;
        }
        state.out = Some(why);
        self.push(Envelope::StreamDropped { id: self.id });
        let (waker, over) = (state.tx_waker.take(), state.is_over());
        drop(state);
        wake(waker);
        if over {
            self.forget();
        }
    }

    pub(super) fn drop_tx(&self) {
        self.close(StreamError::Dropped);
    }

    pub(super) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<StreamError> {
        let mut state = self.lock();
        if let Some(why) = &state.out {
            return Poll::Ready(why.clone());
        }
        state.tx_waker = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Result<StreamItem, StreamError>> {
        let mut state = self.lock();
        if let Some(message) = state.unread.pop_front() {
            state.owed.add(message.len());
            if state.owed.is_much()
                && let Some(credit) = state.credit(self.id)
            {
                self.push(credit);
            }
            return Poll::Ready(Ok(StreamItem::Message(message)));
        }
        match &mut state.end {
            Some(end) => {
                let over = InEnd::Failed(StreamError::Over);
                Poll::Ready(match end {
                    InEnd::Failed(why) => Err(why.clone()),
                    InEnd::Finished(_) => match std::mem::replace(end, over) {
                        InEnd::Finished(last) => Ok(StreamItem::Finished(last)),
                        InEnd::Failed(why) => Err(why),
                    },
                })
            }
            None => {
                // Whoever waits has read everything: the writer may be waiting for just that.
                if !state.owed.is_none()
                    && let Some(credit) = state.credit(self.id)
                {
                    self.push(credit);
                }
                state.rx_waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(super) fn drop_rx(&self) {
        let mut state = self.lock();
        state.unread = VecDeque::new();
        state.cancelled = true;
        if state.end.is_none() {
            self.push(Envelope::StreamCancelled { id: self.id });
        }
    }

    /// How many messages wait to be read here, and their bytes.
    pub(super) fn unread(&self) -> (usize, usize) {
        let state = self.lock();
        (
            state.unread.len(),
            state.unread.iter().map(Bytes::len).sum(),
        )
    }
}
