//! The links of an [`Outbound`], one after the other: dialled while there is use for one, opened,
//! read, and lost.

use std::pin::pin;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::state::{Done, State};
use super::{Answered, Outbound, Reply};
use crate::peer::frame::{Envelope, FrameReader, Outcome};
use crate::peer::handshake::{self, HANDSHAKE_TIMEOUT, Shaken};
use crate::peer::hello::{CANCELS, Class, LinkError};
use crate::peer::links::{LinkEvent, LinkState, Remote, SILENCE, Shared};
use crate::peer::order::Ends;
use crate::peer::queue::Queue;
use crate::peer::stream::{OpenStream, StreamError};
use crate::peer::streams::{EndWith, Streams};

const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
const DATA_IDLE: Duration = Duration::from_secs(300);

impl Outbound {
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
                Ok((shaken, ends)) => return self.open(shared, shaken, ends, number).await,
                Err(error) => failed = error,
            }
        }
        (false, Err(failed))
    }

    async fn dial(
        &self,
        shared: &Shared,
        addr: &str,
        number: u64,
    ) -> Result<(Shaken, Ends), LinkError> {
        let connection = timeout(HANDSHAKE_TIMEOUT, shared.transport.dial(addr))
            .await
            .map_err(|_| LinkError::Slow(HANDSHAKE_TIMEOUT.as_millis()))??;
        let mut identity = shared.identity();
        if self.stranger {
            identity.member.id = crate::NodeId(0);
            identity.cluster = crate::ClusterId(0);
            identity.recovery = 0;
        }
        let security = &shared.security();
        let shaken = handshake::dial(
            connection, &identity, security, self.class, number, self.peer,
        )
        .await?;
        if self.class != Class::Ask {
            shared.admit(&shaken.hello)?;
        }
        let ends = Ends {
            from: identity.member.incarnation,
            to: shaken.hello.boot,
        };
        Ok((shaken, ends))
    }

    async fn open(
        &self,
        shared: &Shared,
        shaken: Shaken,
        ends: Ends,
        number: u64,
    ) -> (bool, Result<(), LinkError>) {
        self.lock().cancels = shaken.hello.features.iter().any(|it| it == CANCELS);
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
        let (queue, streams) = self.opened(ends, number, &started);
        let _end = EndWith(Arc::clone(&streams));
        if let Some(peer) = self.peer {
            shared.handler.event(LinkEvent::Up {
                peer,
                class: self.class,
                remote: Box::new(Remote::of(&shaken.hello, shaken.protocol)),
            });
        }
        let serve = async {
            self.take(&streams, batch)?;
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
    fn opened(&self, ends: Ends, number: u64, started: &[u64]) -> (Arc<Queue>, Arc<Streams>) {
        let queue = Arc::new(Queue::default());
        let count = Arc::clone(&self.streams);
        let streams = Streams::new(Arc::clone(&queue), count, self.limits.payload);
        let mut state = self.lock();
        state.meet(ends);
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
        let (again, freed) = state.drop_cancelled(again);
        for ticket in again.into_iter().chain(ready) {
            state.send(ticket);
        }
        for bytes in freed {
            state.credit_back(bytes);
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
        let (mut last, mut heard) = (Instant::now(), reader.heard());
        // Set once; when it is over it is set anew, if something came meanwhile.
        let mut silence = pin!(sleep_until(last + SILENCE));
        loop {
            tokio::select! {
                biased;
                batch = reader.next() => {
                    (last, heard) = (Instant::now(), reader.heard());
                    self.lock().heard = Some(last);
                    self.take(streams, batch?)?;
                }
                () = &mut silence => {
                    let now = Instant::now();
                    if reader.heard() != heard {
                        (last, heard) = (now, reader.heard());
                    } else if last + SILENCE <= now {
                        return Err(LinkError::Silent(SILENCE.as_millis()));
                    }
                    silence.as_mut().reset(last + SILENCE);
                }
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

    /// What came in one frame. Whoever waits for an answer is told after the lock is given back:
    /// that wakes other threads.
    fn take(
        &self,
        streams: &Arc<Streams>,
        batch: impl IntoIterator<Item = Envelope>,
    ) -> Result<(), LinkError> {
        let mut done = Vec::new();
        let taken = self.take_each(streams, batch, &mut done);
        for (answer, outcome) in done {
            answer.hear(Ok(outcome));
        }
        taken
    }

    fn take_each(
        &self,
        streams: &Arc<Streams>,
        batch: impl IntoIterator<Item = Envelope>,
        done: &mut Vec<Done>,
    ) -> Result<(), LinkError> {
        let mut locked: Option<MutexGuard<'_, State>> = None;
        let mut taken = Ok(());
        for envelope in batch {
            if envelope.is_of_stream() {
                if let Some(state) = locked.take() {
                    self.wake_drained(&state);
                    self.wake(state);
                }
                streams.take(envelope)?;
                continue;
            }
            let state = locked.get_or_insert_with(|| self.lock());
            taken = take_one(state, streams, envelope, done);
            if taken.is_err() {
                break;
            }
        }
        if let Some(state) = locked {
            self.wake_drained(&state);
            self.wake(state);
        }
        taken
    }
}

fn take_one(
    state: &mut State,
    streams: &Arc<Streams>,
    envelope: Envelope,
    done: &mut Vec<Done>,
) -> Result<(), LinkError> {
    match envelope {
        Envelope::Reply {
            id,
            outcome,
            load,
            payload,
        } => {
            let outcome =
                Outcome::of(outcome).ok_or(LinkError::Broken("an outcome that is none"))?;
            let reply = Reply {
                outcome,
                load,
                payload,
            };
            state.answered(id, reply, done);
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
                    state.settle(waiting, Answered::Stream(stream), done);
                }
                // This life of the peer was given up meanwhile.
                None if ticket.is_some() => {}
                _ => return Err(LinkError::Broken("a stream that nobody asked for")),
            }
        }
        Envelope::Ping => {}
        _ => return Err(LinkError::Broken("a listener sends answers and streams")),
    }
    Ok(())
}
