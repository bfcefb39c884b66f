//! The place of a supervised actor: senders keep the seat, whoever sits there at the moment.
//!
//! While an actor is being restarted its seat holds what arrives and hands it over, in order, to
//! the next one. What may arrive is bounded by admission at the edge. A parked seat refuses.

use arc_swap::ArcSwapOption;
use ractor::{ActorRef, Message};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A message that a seat does not take, given back.
#[derive(Debug)]
pub(crate) enum Refused<M> {
    /// The actor failed too often and is not running now.
    Parked(M),
    /// The node is shutting down.
    Closed(M),
}

#[derive(Debug)]
enum State<M> {
    Open(VecDeque<M>),
    Parked,
    Closed,
}

/// Where messages for one actor go.
#[derive(Debug)]
pub(crate) struct Seat<M: Message> {
    actor: ArcSwapOption<ActorRef<M>>,
    state: Mutex<State<M>>,
}

impl<M: Message> Default for Seat<M> {
    fn default() -> Self {
        Self {
            actor: ArcSwapOption::empty(),
            state: Mutex::new(State::Open(VecDeque::new())),
        }
    }
}

impl<M: Message> Seat<M> {
    /// Sends to whoever sits here, or keeps the message for the next one.
    ///
    /// # Errors
    /// The seat is parked or closed; the message comes back.
    pub(crate) fn cast(&self, message: M) -> Result<(), Refused<M>> {
        let message = match &*self.actor.load() {
            Some(actor) => match send(actor, message) {
                Ok(()) => return Ok(()),
                Err(message) => message,
            },
            None => message,
        };
        self.hold(message)
    }

    fn hold(&self, message: M) -> Result<(), Refused<M>> {
        let mut state = self.state();
        match &mut *state {
            State::Parked => Err(Refused::Parked(message)),
            State::Closed => Err(Refused::Closed(message)),
            State::Open(held) => {
                // Another actor may have sat down since: under the lock that is settled.
                let message = match &*self.actor.load() {
                    Some(actor) => match send(actor, message) {
                        Ok(()) => return Ok(()),
                        Err(message) => message,
                    },
                    None => message,
                };
                held.push_back(message);
                Ok(())
            }
        }
    }

    /// An actor sits down and gets what was held for it.
    pub(crate) fn seat(&self, actor: ActorRef<M>) {
        let mut lost = Vec::new();
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Open(VecDeque::new())) {
            State::Open(held) => {
                lost.extend(
                    held.into_iter()
                        .filter_map(|message| send(&actor, message).err()),
                );
            }
            State::Parked => {}
            State::Closed => {
                *state = State::Closed;
                return;
            }
        }
        self.actor.store(Some(actor.into()));
        // An actor that is gone already loses nothing: messages come back by their own drop, which
        // must not happen under the lock.
        drop(state);
        drop(lost);
    }

    /// The actor is gone and another will come.
    pub(crate) fn vacate(&self) {
        self.actor.store(None);
    }

    /// Refuses from now on, and gives back what was held.
    pub(crate) fn park(&self) -> VecDeque<M> {
        self.actor.store(None);
        self.replace(State::Parked)
    }

    /// Refuses for good, and gives back what was held.
    pub(crate) fn close(&self) -> VecDeque<M> {
        self.replace(State::Closed)
    }

    /// The actor that sits here now.
    #[cfg(test)]
    pub(crate) fn occupant(&self) -> Option<ActorRef<M>> {
        self.actor.load().as_ref().map(|actor| (**actor).clone())
    }

    /// Whether the actor failed too often and is waiting for a trial.
    pub(crate) fn is_parked(&self) -> bool {
        matches!(*self.state(), State::Parked)
    }

    fn replace(&self, new: State<M>) -> VecDeque<M> {
        match std::mem::replace(&mut *self.state(), new) {
            State::Open(held) => held,
            State::Parked | State::Closed => VecDeque::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn send<M: Message>(actor: &ActorRef<M>, message: M) -> Result<(), M> {
    match actor.cast(message) {
        Ok(()) => Ok(()),
        Err(ractor::MessagingErr::SendErr(message)) => Err(message),
        // A seat sends only what its actor takes; the other errors lose the message by design.
        Err(_) => Ok(()),
    }
}
