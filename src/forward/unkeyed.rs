//! Events without a key: on this node if it serves their kind and has room, else on the less busy of
//! two others.

use crate::dispatch::run_here;
use crate::engine::flight::Flight;
use crate::engine::guard::Limits as _;
use crate::engine::plan::Route as PlanRoute;
use crate::engine::shared::Shared;
use crate::event::EventKind;
use crate::forward::wire::Pending;
use crate::forward::{Forward, cannot_cross, counts, message, outcome, stream};
use crate::outcome::{Failure, Overloaded, Unavailable};
use centripeta_cluster::peer::{Answered, Outcome as LinkOutcome, Reason, Reply, RequestError};
use centripeta_cluster::route::{Kind, Route, Surroundings, Unroutable, route};
use centripeta_cluster::{Member, NodeId};
use std::future::poll_fn;
use std::sync::Arc;

/// How often an event that came back unstarted is sent again.
const RESENDS: usize = 2;
/// In how many nodes that died an event may have been waiting.
const DEATHS: usize = 4;

/// What this node knows beside the table.
struct Around<'a> {
    forward: &'a Forward,
    has_room: bool,
    /// Nodes that have just said no.
    passed: &'a [NodeId],
}

impl Surroundings for Around<'_> {
    fn in_flight(&self, node: NodeId) -> u32 {
        self.forward.load_of(node)
    }

    fn is_reachable(&self, node: NodeId) -> bool {
        !self.passed.contains(&node)
            && self
                .forward
                .wire
                .get()
                .is_some_and(|wire| wire.is_reachable(node))
    }

    fn has_room(&self) -> bool {
        self.has_room
    }

    fn serves_stateless(&self) -> bool {
        self.forward.has_quorum() || self.forward.seat.serve_stateless_isolated
    }
}

/// What a node needs to serve, to run such an event.
pub(super) fn group(kind: EventKind, method: &str) -> Kind<'_> {
    match kind {
        EventKind::Connect | EventKind::Refresh => Kind::Connect,
        EventKind::Rpc => Kind::Rpc(method),
        _ => Kind::Unkeyed,
    }
}

/// What an attempt at another node came to.
enum Tried {
    /// It is answered.
    Over,
    /// It did not start there.
    NotStarted(Flight),
    /// The node is gone.
    Lost { flight: Flight, started: bool },
}

impl Forward {
    /// Runs an event of this node that has no key.
    pub(super) fn unkeyed(self: &Arc<Self>, flight: Flight, route: Arc<PlanRoute>) {
        if flight.cx().kind() == EventKind::ChannelState {
            return self.batch(flight, route);
        }
        match self.server_of(&flight, &[]) {
            Ok(None) => {
                self.counts.local.add_one();
                run_here(flight, route, None);
            }
            Ok(Some(member)) => {
                let this = Arc::clone(self);
                let Some(handle) = self.handles.get(flight.core().0) else {
                    return run_here(flight, route, None);
                };
                handle.spawn(async move { this.try_servers(flight, route, member).await });
            }
            Err(why) => flight.finish(Failure::Unavailable(why).into()),
        }
    }

    /// Who runs an event without a key: another node, or `None` for this one.
    fn server_of(&self, flight: &Flight, passed: &[NodeId]) -> Result<Option<Member>, Unavailable> {
        let cx = flight.cx();
        self.server_for(flight.shared(), (cx.kind(), cx.method()), passed)
    }

    /// The same for an event of this kind and method.
    pub(super) fn server_for(
        &self,
        shared: &Shared,
        (kind, method): (EventKind, &str),
        passed: &[NodeId],
    ) -> Result<Option<Member>, Unavailable> {
        let shown = self.standing().shown();
        let around = Around {
            forward: self,
            // One event in four of the limit is left to those that can run nowhere else.
            has_room: shared.in_flight.events.get() / 3 * 4 <= shared.limits.in_flight(),
            passed,
        };
        let kind = group(kind, method);
        match route(&shown.table, shown.me, kind, &around, fastrand::u64(..)) {
            Route::Here(_) => Ok(None),
            Route::Node { member, .. } => Ok(Some(member)),
            Route::Unavailable(Unroutable::Isolated) => Err(Unavailable::Isolated),
            Route::Unavailable(Unroutable::NoServer | Unroutable::Vacant) => {
                Err(Unavailable::NoServer)
            }
        }
    }

    /// Tries servers until one answers or no more may be tried.
    async fn try_servers(
        self: Arc<Self>,
        mut flight: Flight,
        route: Arc<PlanRoute>,
        mut member: Member,
    ) {
        let mut passed = Vec::new();
        let (mut sent_back, mut deaths, mut may_have_run) = (0, 0, false);
        loop {
            match self.try_server(flight, member).await {
                Tried::Over => return,
                Tried::NotStarted(back) => {
                    flight = back;
                    sent_back += 1;
                }
                Tried::Lost {
                    flight: back,
                    started,
                } => {
                    flight = back;
                    deaths += 1;
                    if started && (may_have_run || !route.info.retry_safe) {
                        return flight.finish(Failure::Unavailable(Unavailable::LostPeer).into());
                    }
                    may_have_run |= started;
                }
            }
            if sent_back > RESENDS || deaths > DEATHS {
                return flight.finish(Failure::Overloaded(Overloaded::Peer).into());
            }
            flight.come_back();
            passed.push(member.id);
            member = match self.server_of(&flight, &passed) {
                Ok(None) => {
                    self.counts.local.add_one();
                    return run_here(flight, route, None);
                }
                Ok(Some(member)) => member,
                Err(why) => return flight.finish(Failure::Unavailable(why).into()),
            };
            self.counts.resent.add_one();
        }
    }

    async fn try_server(self: &Arc<Self>, mut flight: Flight, member: Member) -> Tried {
        let payload = match self.encode(&flight, None) {
            Ok(payload) => payload,
            Err(cause) => {
                flight.finish(cannot_cross(cause).into());
                return Tried::Over;
            }
        };
        let deadline = flight.deadline();
        let is_stream = flight.cx().kind().is_stream();
        match self.wire_request(member.id, payload, deadline, is_stream) {
            Ok(answer) => {
                self.counts.forwarded.add_one();
                flight.send_away();
                self.follow_unkeyed(flight, member, answer).await
            }
            Err(why @ RequestError::TooLarge { .. }) => {
                flight.finish(cannot_cross(why.to_string()).into());
                Tried::Over
            }
            Err(RequestError::Gone { may_have_started }) => Tried::Lost {
                flight,
                started: may_have_started,
            },
            Err(_) => Tried::NotStarted(flight),
        }
    }

    async fn follow_unkeyed(
        self: &Arc<Self>,
        mut flight: Flight,
        member: Member,
        mut answer: Pending,
    ) -> Tried {
        let deadline = flight.deadline();
        let answer = {
            let (_, call) = flight.parts();
            tokio::select! {
                biased;
                answer = answer.wait() => Ok(answer),
                () = poll_fn(|cx| call.poll_gone(cx)) => Err(Failure::Cancelled),
                () = tokio::time::sleep_until(deadline) => Err(Failure::Deadline),
            }
        };
        let reply = match answer {
            Ok(Ok(Answered::Reply(reply))) => reply,
            Ok(Ok(Answered::Stream(open))) => {
                self.heard_load(member.id, open.load);
                if !self.is_heeded(member) {
                    return Tried::Lost {
                        flight,
                        started: true,
                    };
                }
                let inbound = flight.cx_mut().inbound.take();
                let outcome = stream::accepted(open, inbound, &self.handles[flight.core().0]);
                flight.finish(outcome);
                return Tried::Over;
            }
            Ok(Err(RequestError::Gone { may_have_started })) => {
                return Tried::Lost {
                    flight,
                    started: may_have_started,
                };
            }
            Ok(Err(_)) => {
                flight.finish(Failure::Deadline.into());
                return Tried::Over;
            }
            Err(failure) => {
                if matches!(failure, Failure::Cancelled) {
                    self.counts.cancelled.add_one();
                }
                flight.finish(failure.into());
                // The answer to come is dropped: that node hears that nobody waits for it.
                return Tried::Over;
            }
        };
        let Reply {
            outcome,
            load,
            payload,
        } = reply;
        self.heard_load(member.id, load);
        if !self.is_heeded(member) {
            let started = matches!(outcome, LinkOutcome::Answered | LinkOutcome::Dropped);
            return Tried::Lost { flight, started };
        }
        let outcome = match outcome {
            LinkOutcome::Answered => outcome::decode(flight.cx().kind(), payload),
            LinkOutcome::Expired => Failure::Deadline.into(),
            LinkOutcome::Dropped => Failure::Unavailable(Unavailable::LostPeer).into(),
            LinkOutcome::NotStarted => {
                let why = message::decode_not_here(payload);
                let reason = why.map_or(Reason::WrongOwner, |why| why.reason);
                self.counts.bounced[counts::bounce(reason)].add_one();
                return Tried::NotStarted(flight);
            }
        };
        flight.finish(outcome);
        Tried::Over
    }
}
