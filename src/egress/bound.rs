//! The publisher as handlers have it: bound to the slot and owner epoch of the event.

use super::Publisher;
use super::job::Fence;
use super::rules::Inside;
use crate::cx::Cx;
use crate::event::Event;
use crate::extract::{FromEvent, Rejection};
use centripeta_cluster::Standing;
use std::sync::Arc;

/// The publisher of an engine, and what it is bound to for an event.
#[derive(Debug)]
pub(crate) struct Egress {
    pub(crate) publisher: Publisher,
    pub(crate) standing: Arc<Standing>,
}

impl Egress {
    /// The publisher for the handler of an event.
    fn of(&self, cx: &Cx) -> Publisher {
        let mut publisher = self.publisher.clone();
        let lane = cx.lane.as_ref();
        publisher.fence = lane.map(|lane| Fence::new(lane.slot, lane.epoch, &self.standing));
        publisher.inside = Inside::of(cx);
        publisher.caller = cx.trace.caller();
        publisher
    }
}

/// The node's publisher, bound to the event's slot and owner epoch if it has a key.
impl<E: Event, S> FromEvent<E, S> for Publisher {
    fn from_event(cx: &mut Cx, _: &S) -> Result<Self, Rejection> {
        let egress = cx.matched().map(|route| route.egress.of(cx));
        // Handlers run on routes only.
        Ok(egress.unwrap_or(Self::closed()))
    }
}
