//! What stages and handlers see of an event: the envelope, the route it took, and attributes.

use crate::engine::plan::{Route, RouteInfo};
use crate::envelope::{Envelope, ScanError};
use crate::event::Event;
use crate::forward::AttributeSet;
use crate::inbound::InboundSource;
use crate::region::{LaneState, LaneView};
use crate::routing::key::KeySource;
use crate::routing::pattern::Captures;
use crate::trace::Trace;
use bytes::Bytes;
use centripeta_cluster::{OwnerEpoch, SlotId};
use http::uri::Authority;
use std::ops::Deref;
use std::sync::Arc;

/// An event as stages and handlers see it; reads the envelope's fields by deref.
#[derive(Debug)]
pub struct Cx {
    envelope: Envelope,
    attributes: AttributeSet,
    route: Option<(Arc<Route>, Captures)>,
    /// The next capture that a `Param` extractor takes.
    pub(crate) next_param: usize,
    /// Where the event runs; set when it is dispatched.
    pub(crate) lane: Option<LaneView>,
    /// The slots that a batch of channels needs, and under which epoch this node acts for them: its
    /// outcome leaves only while all of it holds.
    pub(crate) acts: Vec<(SlotId, OwnerEpoch)>,
    /// What a handler that keeps its lane finds there.
    pub(crate) lane_state: Option<LaneState>,
    /// Publications of the client, for a two-way stream.
    pub(crate) inbound: Option<InboundSource>,
    /// The trace that it belongs to.
    pub(crate) trace: Trace,
    /// The host that the caller named.
    pub(crate) authority: Option<Authority>,
}

impl Cx {
    /// An event and the route it will take, if there is one.
    #[inline]
    pub(crate) fn new(envelope: Envelope, route: Option<(Arc<Route>, Captures)>) -> Self {
        Self {
            envelope,
            attributes: AttributeSet::default(),
            route,
            next_param: 0,
            lane: None,
            acts: Vec::new(),
            lane_state: None,
            inbound: None,
            trace: Trace::default(),
            authority: None,
        }
    }

    /// The envelope.
    pub const fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The route, unless nothing matched.
    pub fn route(&self) -> Option<&RouteInfo> {
        self.route.as_ref().map(|(route, _)| &route.info)
    }

    /// The host that the caller named (`:authority`).
    pub(crate) fn authority(&self) -> Option<&str> {
        self.authority.as_ref().map(Authority::as_str)
    }

    /// The compiled route.
    pub(crate) fn matched(&self) -> Option<&Arc<Route>> {
        self.route.as_ref().map(|(route, _)| route)
    }

    /// A parameter of the route's pattern, such as `room` of `chat:{room}`.
    pub fn param(&self, name: &str) -> Option<&str> {
        let (route, captures) = self.route.as_ref()?;
        route
            .info
            .pattern
            .param(name, captures, self.envelope.subject())
    }

    /// The parameter at a place in the pattern, counted from 0.
    pub(crate) fn param_at(&self, index: usize) -> Option<&str> {
        let (_, captures) = self.route.as_ref()?;
        self.envelope.subject().get(captures.get(index)?)
    }

    /// An attribute that a stage has set.
    pub fn attribute<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.attributes.get()
    }

    /// Sets an attribute for everything further in and for the `after` halves; gives back what was
    /// there of the same type.
    pub fn set_attribute<T: Clone + Send + Sync + 'static>(&mut self, value: T) -> Option<T> {
        self.attributes.insert(value, true)
    }

    /// Sets what a built-in stage keeps for its own `after` half: no handler sees it, so it stays where
    /// the stages are.
    pub(crate) fn keep<T: Clone + Send + Sync + 'static>(&mut self, value: T) {
        self.attributes.insert(value, false);
    }

    /// The attributes.
    pub(crate) const fn attributes(&self) -> &AttributeSet {
        &self.attributes
    }

    /// Attributes that have come from elsewhere.
    pub(crate) fn set_attributes(&mut self, attributes: AttributeSet) {
        self.attributes = attributes;
    }

    /// Edits the request as a typed message; fields that the contract does not know are dropped.
    /// The route is not looked up again.
    ///
    /// # Errors
    /// The event is of another kind.
    pub fn edit<E: Event>(&mut self, edit: impl FnOnce(&mut E::Request)) -> Result<(), ScanError> {
        let subject_before = self.envelope.subject().to_owned();
        self.envelope.edit::<E>(edit)?;
        if self.envelope.subject() != subject_before {
            // The captures are places in the old name.
            self.route = self.route.take().and_then(|(route, _)| {
                let captures = route.info.pattern.matches(self.envelope.subject())?;
                Some((route, captures))
            });
        }
        Ok(())
    }
}

impl Deref for Cx {
    type Target = Envelope;

    fn deref(&self) -> &Envelope {
        &self.envelope
    }
}

impl KeySource for Cx {
    fn user(&self) -> &str {
        self.envelope.user()
    }

    fn client(&self) -> &str {
        self.envelope.client()
    }

    fn channel(&self) -> &str {
        self.envelope.channel()
    }

    fn method(&self) -> &str {
        self.envelope.method()
    }

    fn param(&self, name: &str) -> Option<&str> {
        Self::param(self, name)
    }

    fn data(&self) -> Option<Bytes> {
        self.envelope.data().ok().flatten()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.envelope.header(name)
    }
}
